import { createHash } from "node:crypto";
import { UnavailableError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { BoundedMap } from "../bounded-map.ts";
import type { Identity, Token, TokenRequest } from "../credentials/identity.ts";
import { Secret } from "./secret.ts";

/** Tokens that are kept. */
const maxTokens = 10_000;

/**
 * A token that is refused when it is younger than this was never good: whoever got it lacks the rights. An older one
 * has lost them meanwhile, or the registry its keys, and is worth another fetch.
 */
const newTokenMs = 5000;

interface Entry {
  readonly token: Token;
  readonly fetchedAtMs: number;
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
 * expire. Failures are not kept.
 */
export class TokenCache {
  readonly #entries = new BoundedMap<string, Entry>(maxTokens);
  readonly #flights: Flights<Entry>;
  readonly #timeoutMs: number;
  readonly #now: () => number;

  /** @param timeoutMs how long a fetch may take, retries included. */
  constructor(timeoutMs: number, now: () => number = Date.now) {
    this.#timeoutMs = timeoutMs;
    this.#flights = new Flights({ timeoutMs });
    this.#now = now;
  }

  /**
   * A token that the registry has not refused; undefined if that identity has none.
   *
   * @throws what the fetch throws.
   */
  async get(query: TokenQuery, signal: AbortSignal): Promise<Token | undefined> {
    const key = keyOf(query);
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (!isRefusedToken(known.token, query.refusedSha256)) {
        if (known.token.renewAtMs > this.#now()) {
          return known.token;
        }
      } else if (query.isInsufficient || this.#now() - known.fetchedAtMs < newTokenMs) {
        return undefined;
      }
    }
    const fetched = await this.#flights.join(key, (limit) => this.#fetch(key, query, limit), signal);
    return isRefusedToken(fetched.token, query.refusedSha256) ? undefined : fetched.token;
  }

  async #fetch(key: string, { identity, request }: TokenQuery, limit: AbortSignal): Promise<Entry> {
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
