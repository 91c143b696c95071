import { createHash } from "node:crypto";
import { Secret } from "@oci-worker/credentials/secret";
import { UnavailableError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { BoundedMap } from "../bounded-map.ts";
import type { Identity, Token, TokenRequest } from "../credentials/identity.ts";
import { within } from "../within.ts";
import { TokenServerFailure } from "./fetch-token.ts";

/** Tokens that are kept. */
const maxTokens = 10_000;

/**
 * A token that is refused when it is younger than this was never good: whoever got it lacks the rights. An older one
 * has lost them meanwhile, or the registry its keys, and is worth another fetch.
 */
const newTokenMs = 5000;

/** A token that lives for seconds is not new for all of them: the registry's clock may be ahead. */
const newShareOfLife = 1 / 3;

/** How long a caller waits for a new token while the old one is still good. */
const renewalPatienceMs = 2000;

/** When a caller that was given the old token is to ask again. */
const renewalPauseMs = 1000;

/** Longest time for which a token server is left alone because it asks for it. */
const maxHoldOffMs = 60_000;

/** Token servers that want to be left alone. */
const maxHoldOffs = 1000;

interface Entry {
  readonly token: Token;
  readonly fetchedAtMs: number;
}

/** A token server has asked to be left alone by an identity. */
interface HoldOff {
  readonly untilMs: number;
  readonly failure: TokenServerFailure;
}

export interface TokenQuery {
  readonly identity: Identity;
  readonly request: TokenRequest;
  /** Lower-case hex sha256 of the Authorization value that the registry has just refused; empty if none. */
  readonly refusedSha256: string;
  /** Whether the registry says that the refused token is good but allows too little, so that no other one will do. */
  readonly isInsufficient: boolean;
}

/**
 * The tokens of identities, fetched when they are needed, once for all who need the same one, and again before they
 * expire. Failures are not kept, but for that a token server is left alone for as long as it asks for.
 */
export class TokenCache {
  readonly #entries = new BoundedMap<string, Entry>(maxTokens);
  readonly #holdOffs = new BoundedMap<string, HoldOff>(maxHoldOffs);
  readonly #flights: Flights<Entry>;
  readonly #timeoutMs: number;
  readonly #now: () => number;
  readonly #renewalPatienceMs: number;

  /** @param timeoutMs how long a fetch may take, retries included. */
  constructor(timeoutMs: number, now: () => number = Date.now, patienceMs: number = renewalPatienceMs) {
    this.#timeoutMs = timeoutMs;
    this.#flights = new Flights({ timeoutMs });
    this.#now = now;
    this.#renewalPatienceMs = patienceMs;
  }

  /**
   * A token that the registry has not refused; undefined if that identity has none.
   *
   * @throws what the fetch throws.
   */
  async get(query: TokenQuery, signal: AbortSignal): Promise<Token | undefined> {
    const key = keyOf(query);
    const known = this.#entries.get(key);
    const isRefused = known !== undefined && isRefusedToken(known.token, query.refusedSha256);
    if (known !== undefined && !isRefused && known.token.renewAtMs > this.#now()) {
      return known.token;
    }
    if (known !== undefined && isRefused && (query.isInsufficient || this.#isNew(known))) {
      return undefined;
    }
    const fetching = this.#flights.join(key, (limit) => this.#fetch(key, query, limit), signal);
    const token =
      known === undefined || isRefused
        ? (await fetching).token
        : await this.#renewed(known.token, fetching, signal);
    return isRefusedToken(token, query.refusedSha256) ? undefined : token;
  }

  #isNew({ token, fetchedAtMs }: Entry): boolean {
    const usableMs = token.renewAtMs - fetchedAtMs;
    return this.#now() - fetchedAtMs < Math.min(newTokenMs, usableMs * newShareOfLife);
  }

  /** The new token; or the old one, as long as it is good, where the new one is slow to come or cannot be had now. */
  async #renewed(old: Token, fetching: Promise<Entry>, signal: AbortSignal): Promise<Token> {
    const leftMs = old.expiresAtMs - this.#now();
    try {
      const fetched = await within(fetching, Math.min(leftMs, this.#renewalPatienceMs));
      if (fetched !== undefined) {
        return fetched.value.token;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof UnavailableError) || old.expiresAtMs <= this.#now()) {
        throw error;
      }
    }
    if (old.expiresAtMs <= this.#now()) {
      return (await fetching).token;
    }
    return { ...old, renewAtMs: Math.min(old.expiresAtMs, this.#now() + renewalPauseMs) };
  }

  async #fetch(key: string, { identity, request }: TokenQuery, limit: AbortSignal): Promise<Entry> {
    const server = JSON.stringify([identity.key, request.realm.href]);
    const holdOff = this.#holdOffs.get(server);
    if (holdOff !== undefined && holdOff.untilMs > this.#now()) {
      throw holdOff.failure;
    }
    try {
      const token = await identity.fetchToken(request, limit);
      const entry = { token, fetchedAtMs: this.#now() };
      this.#entries.set(key, entry);
      return entry;
    } catch (cause) {
      if (limit.aborted) {
        throw new UnavailableError(
          `Cannot get token from ${request.realm.host}: it took longer than ${this.#timeoutMs} ms`,
          { cause },
        );
      }
      if (cause instanceof TokenServerFailure && cause.retryAfterMs > 0) {
        const untilMs = this.#now() + Math.min(cause.retryAfterMs, maxHoldOffMs);
        this.#holdOffs.set(server, { untilMs, failure: cause });
      }
      throw cause;
    }
  }
}

/** Value of the Authorization header that shows `token`. */
export function bearerValue({ value }: Token): Secret {
  return new Secret(`Bearer ${value.reveal()}`);
}

/** Lower-case hex sha256 of an Authorization value, by which callers say which one was refused. */
export function sha256Of(authorization: string): string {
  return createHash("sha256").update(authorization).digest("hex");
}

function isRefusedToken(token: Token, refusedSha256: string): boolean {
  return refusedSha256 !== "" && sha256Of(bearerValue(token).reveal()) === refusedSha256;
}

/** Who, at which registry, by which server, for what. */
function keyOf({ identity, request: { host, realm, service, scopes } }: TokenQuery): string {
  return JSON.stringify([identity.key, host, realm.href, service, scopes]);
}
