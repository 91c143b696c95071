import {
  NotFoundError,
  PermissionDeniedError,
  ServiceError,
  UnauthenticatedError,
  UnavailableError,
  UnimplementedError,
} from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { BoundedMap } from "../bounded-map.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { tokenOf } from "../token/token-answer.ts";
import { credentialsIdentity } from "./credentials-identity.ts";
import type { Credentials, Identity, Keychain, KeychainQuery, Obstacle, Scheme } from "./identity.ts";
import type { LiveSession, SessionAuth } from "./session-auth.ts";
import { proveTokenAuthority } from "./token-authority.ts";

/** How long a client may take to answer; BuildKit's limit of each auth call. */
const clientTimeoutMs = 60_000;

/** Keys of sessions that are remembered. */
const maxAuthorities = 4096;

/**
 * The credentials of the clients whose builds want the image: the named sessions first, then the others that may be
 * asked. Sessions that have ended are not asked.
 *
 * A client with a token authority fetches its tokens itself and shows no password. Its identity is the key that it
 * has proved to hold; without one it is what it shows.
 */
export class SessionKeychain implements Keychain {
  readonly name = "session";
  readonly #sessions: SessionAuth;
  readonly #fetcher: TokenFetcher;
  readonly #authorities = new BoundedMap<string, string>(maxAuthorities);
  readonly #proofs = new Flights<string>({ timeoutMs: clientTimeoutMs });
  readonly #credentials = new Flights<Credentials | undefined>({ timeoutMs: clientTimeoutMs });

  constructor(sessions: SessionAuth, fetcher: TokenFetcher) {
    this.#sessions = sessions;
    this.#fetcher = fetcher;
  }

  async *identities(query: KeychainQuery, signal: AbortSignal): AsyncGenerator<Identity | Obstacle> {
    const { host, scheme, sessionIDs, reference, anySession } = query;
    if (sessionIDs.length === 0 && !anySession) {
      return;
    }
    const live = await this.#sessions.liveSessions({ sessionIDs, ...(anySession && { reference }) }, signal);
    if (live.length === 0) {
      yield { obstacle: new UnavailableError("no active sessions") };
    }
    for (const session of live) {
      const identity = await this.#identity(session, host, scheme, signal);
      if (identity !== undefined) {
        yield identity;
      }
    }
  }

  /** Who is behind `session`; undefined if its client has nothing for `host`. */
  async #identity(
    session: LiveSession,
    host: string,
    scheme: Scheme,
    signal: AbortSignal,
  ): Promise<Identity | Obstacle | undefined> {
    try {
      const authority = scheme === "bearer" ? await this.#authority(session, host, signal) : undefined;
      if (authority !== undefined) {
        return this.#authorityIdentity(session, authority);
      }
      if (!session.methods.has("credentials")) {
        return undefined;
      }
      const credentials = await this.#credentials.join(
        keyOf(session, host),
        (limit) => this.#sessions.credentials(session.id, host, limit),
        signal,
      );
      return credentials && credentialsIdentity(credentials, this.#fetcher);
    } catch (error) {
      signal.throwIfAborted();
      return { obstacle: obstacleOf(error) };
    }
  }

  /** The proved key of a session's client; undefined if the client keeps to its password. */
  async #authority(session: LiveSession, host: string, signal: AbortSignal): Promise<string | undefined> {
    const needed = ["getTokenAuthority", "verifyTokenAuthority", "fetchToken"] as const;
    if (!needed.every((method) => session.methods.has(method))) {
      return undefined;
    }
    const key = keyOf(session, host);
    const known = this.#authorities.get(key);
    if (known !== undefined) {
      return known;
    }
    try {
      const prove = (limit: AbortSignal) => proveTokenAuthority(this.#sessions, session.id, host, limit);
      const authority = await this.#proofs.join(key, prove, signal);
      this.#authorities.set(key, authority);
      return authority;
    } catch (error) {
      // The client has it switched off, or is gone; then its credentials cannot be asked for either.
      if (error instanceof UnimplementedError || error instanceof UnavailableError) {
        return undefined;
      }
      throw error;
    }
  }

  #authorityIdentity(session: LiveSession, authority: string): Identity {
    return {
      key: `authority:${authority}`,
      fetchToken: async (request, signal) => {
        try {
          const { value, lifetime } = await this.#sessions.fetchToken(session.id, request, signal);
          return tokenOf(value.reveal(), lifetime, Date.now());
        } catch (error) {
          signal.throwIfAborted();
          throw fetchFailure(error, request.realm.host);
        }
      },
    };
  }
}

/** One stay of one client at one registry: its id alone may come again with another client. */
function keyOf({ id, attachedAt }: LiveSession, host: string): string {
  return JSON.stringify([id, attachedAt, host]);
}

/** An answer of a client that says that the token server has refused it, as BuildKit's clients put it. */
const refusal = /\b(?:400 Bad Request|401 Unauthorized|403 Forbidden)\b/i;

/** What a failed FetchToken of a client means. Its text is the client's own, and is not repeated. */
function fetchFailure(error: unknown, server: string): unknown {
  if (!(error instanceof ServiceError)) {
    return error;
  }
  const isRefusal =
    error instanceof PermissionDeniedError ||
    error instanceof UnauthenticatedError ||
    refusal.test(error.message);
  if (isRefusal) {
    return new PermissionDeniedError(
      `Cannot get token from ${server}: it refuses the credentials of the session's client`,
    );
  }
  return new UnavailableError(`Cannot get token from ${server} through the client of the session`, {
    cause: error,
  });
}

function obstacleOf(error: unknown): ServiceError {
  if (error instanceof NotFoundError) {
    return new UnavailableError("the session has ended");
  }
  if (error instanceof PermissionDeniedError) {
    return error;
  }
  if (error instanceof ServiceError) {
    return new UnavailableError("the client of the session could not be asked", { cause: error });
  }
  throw error;
}
