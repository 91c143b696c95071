import type { RegistryHost } from "@oci-worker/registry/host";
import { BoundedMap } from "./bounded-map.ts";
import type { Scheme } from "./credentials/identity.ts";
import type { Access } from "./handle.ts";

/** Images that are remembered. */
const maxAccounts = 1024;

/** Hosts of one image, keychains tried at one of them, and characters of a reason that are remembered. */
const maxHosts = 8;
const maxTried = 5;
const maxReasonLength = 300;

/** Why a keychain was of no use. */
export interface Tried {
  readonly keychain: string;
  readonly reason: string;
}

/** What became of one image at one host. */
export interface HostAccount {
  readonly host: Pick<RegistryHost, "scheme" | "host" | "upstreamNamespace">;
  /** `unused`: nobody has asked it. `asked`: whoever was about to ask it has not told what came of it. */
  readonly outcome: "unused" | "asked" | "served" | "failed";
  /** Why it was of no use. */
  readonly failure?: string;
  /** What opened it; absent if nothing did, or nothing was needed. */
  readonly keychain?: string;
  /** What it wanted to see. */
  readonly challenge?: Scheme;
  /** When it last wanted something. */
  readonly tried: readonly Tried[];
  readonly lastUsedAtMs?: number;
  /** How often it was opened. */
  readonly authorizations: number;
}

/** What became of one image. */
export interface Account {
  readonly reference: string;
  readonly access: Access;
  readonly resolvedAtMs?: number;
  /** In the order in which they are tried. */
  readonly hosts: readonly HostAccount[];
}

/** An image, and what somebody wants to do with it. */
export type Wish = Pick<Account, "reference" | "access">;

/**
 * Remembers what became of the images that were asked for lately, so that somebody who wonders can be told: which host
 * and keychain served them, and what was tried before. It decides nothing and holds no secret.
 */
export class Ledger {
  readonly #accounts = new BoundedMap<string, Account>(maxAccounts);
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Somebody was told that `hosts` serve it. What is known of those that still do is kept. */
  resolved(wish: Wish, hosts: readonly RegistryHost[]): void {
    const before = this.#accounts.get(keyOf(wish))?.hosts ?? [];
    const accounts = hosts.slice(0, maxHosts).map((host) => ({
      ...(before.find((each) => each.host.host === host.host) ?? unused(host)),
      host: named(host),
    }));
    this.#set(wish, { resolvedAtMs: this.#now(), hosts: accounts });
  }

  /** Somebody is about to ask a host, with nothing to show. */
  asked(wish: Wish, host: RegistryHost): void {
    this.#update(wish, host, ({ outcome }) => ({ outcome: outcome === "unused" ? "asked" : outcome }));
  }

  /** `keychain` has met what the host wanted to see, after others had not. */
  authorized(
    wish: Wish,
    host: RegistryHost,
    found: { readonly keychain: string; readonly challenge: Scheme; readonly tried: readonly Tried[] },
  ): void {
    this.#update(wish, host, ({ outcome, authorizations }) => ({
      outcome: outcome === "unused" ? "asked" : outcome,
      keychain: found.keychain,
      challenge: found.challenge,
      tried: shortened(found.tried),
      authorizations: authorizations + 1,
    }));
  }

  /** Nothing has met what the host wanted to see. */
  refused(
    wish: Wish,
    host: RegistryHost,
    { challenge, tried }: { readonly challenge: Scheme; readonly tried: readonly Tried[] },
  ): void {
    this.#update(wish, host, ({ keychain: _keychain, ...rest }) => ({
      ...rest,
      outcome: "failed",
      failure: "no credential opens it",
      challenge,
      tried: shortened(tried),
    }));
  }

  /** Whoever asked a host tells what came of it: undefined if it has served, else why not. */
  reported(wish: Wish, host: RegistryHost, failure: string | undefined): void {
    this.#update(wish, host, () =>
      failure === undefined
        ? { outcome: "served" }
        : { outcome: "failed", failure: failure.slice(0, maxReasonLength) },
    );
  }

  /** What is remembered of `reference`, or of all; those that were asked for last come first. */
  explain(reference?: string): Account[] {
    const accounts = [...this.#accounts.values()].reverse();
    return reference === undefined ? accounts : accounts.filter((account) => account.reference === reference);
  }

  #update(
    wish: Wish,
    host: RegistryHost,
    change: (before: HostAccount) => Partial<HostAccount> & Pick<HostAccount, "outcome">,
  ): void {
    const { hosts = [], ...account } = this.#accounts.get(keyOf(wish)) ?? {};
    const known = hosts.find((each) => each.host.host === host.host);
    const { failure: _failure, ...before } = known ?? unused(host);
    const after: HostAccount = { ...before, ...change(before), lastUsedAtMs: this.#now() };
    const others =
      known === undefined ? [...hosts, after] : hosts.map((each) => (each === known ? after : each));
    this.#set(wish, { ...account, hosts: others.slice(-maxHosts) });
  }

  #set({ reference, access }: Wish, account: Omit<Account, keyof Wish>): void {
    this.#accounts.set(keyOf({ reference, access }), { ...account, reference, access });
  }
}

function keyOf({ reference, access }: Wish): string {
  return `${access} ${reference}`;
}

function unused(host: RegistryHost): HostAccount {
  return { host: named(host), outcome: "unused", tried: [], authorizations: 0 };
}

/** Without the TLS settings and headers, which are nobody's business here. */
function named({ scheme, host, upstreamNamespace }: RegistryHost): HostAccount["host"] {
  return { scheme, host, ...(upstreamNamespace !== undefined && { upstreamNamespace }) };
}

function shortened(tried: readonly Tried[]): Tried[] {
  return tried
    .slice(0, maxTried)
    .map(({ keychain, reason }) => ({ keychain, reason: reason.slice(0, maxReasonLength) }));
}
