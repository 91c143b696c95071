import {
  NotFoundError,
  PermissionDeniedError,
  ServiceError,
  UnauthenticatedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { type TokenFetcher, TokenServerFailure, withRetries } from "../token/fetch-token.ts";
import { credentialsIdentity } from "./credentials-identity.ts";
import type { Identity, Keychain, KeychainQuery, Obstacle, Token, TokenRequest } from "./identity.ts";
import { patiently } from "./patiently.ts";
import type { LiveSession, SessionAuth } from "./session-auth.ts";
import { MuteClientError, SessionClients, type SessionTimes } from "./session-clients.ts";

/**
 * The credentials of the clients whose builds want the image: the named sessions first, then the others that may be
 * asked. Sessions that have ended are not asked, and one that does not answer does not keep the others from it.
 *
 * A client with a token authority fetches its tokens itself and shows no password. Its identity is the key that it
 * has proved to hold; without one it is what it shows.
 */
export class SessionKeychain implements Keychain {
  readonly name = "session";
  readonly isClients = true;
  readonly #clients: SessionClients;
  readonly #fetcher: TokenFetcher;

  constructor(sessions: SessionAuth, fetcher: TokenFetcher, times?: Partial<SessionTimes>) {
    this.#clients = new SessionClients(sessions, times);
    this.#fetcher = fetcher;
  }

  async *identities(query: KeychainQuery, signal: AbortSignal): AsyncGenerator<Identity | Obstacle> {
    if (query.sessionIDs.length === 0 && !query.anySession) {
      return;
    }
    const live = await this.#clients.live(query, signal);
    if (live.length === 0) {
      yield { obstacle: new UnavailableError("no active sessions") };
    }
    const identityOf = (session: LiveSession) => this.#identity({ session, live, ...query }, signal);
    const told = new Set<string>();
    for await (const found of patiently(live, identityOf, this.#clients.patience(query.host))) {
      // Several sessions of one user are one identity: what is refused to one is refused to all.
      if (found !== undefined && !("key" in found && told.has(found.key))) {
        yield found;
      }
      if (found !== undefined && "key" in found) {
        told.add(found.key);
      }
    }
  }

  /** Who is behind `session`; undefined if its client has nothing for `host`. */
  async #identity(candidate: Candidate, signal: AbortSignal): Promise<Identity | Obstacle | undefined> {
    const { session, host, scheme } = candidate;
    try {
      const authority =
        scheme === "bearer" ? await this.#clients.authority(session, host, signal) : undefined;
      if (authority !== undefined) {
        return this.#authorityIdentity(candidate, authority);
      }
      const credentials = await this.#clients.credentials(session, host, signal);
      return credentials && credentialsIdentity(credentials, this.#fetcher);
    } catch (error) {
      signal.throwIfAborted();
      return { obstacle: obstacleOf(error) };
    }
  }

  #authorityIdentity({ session, live }: Candidate, authority: string): Identity {
    const sessions = [session, ...live.filter((other) => other !== session)];
    return {
      key: `authority:${authority}`,
      fetchToken: (request, signal) => {
        const fetch = () => this.#fetchThroughAny(sessions, authority, request, signal);
        return withRetries(this.#fetcher, fetch, signal);
      },
    };
  }

  /** A token that the client of one of `sessions` gets, which all are tried; see {@link fetchFailure}. */
  async #fetchThroughAny(
    sessions: readonly LiveSession[],
    authority: string,
    request: TokenRequest,
    signal: AbortSignal,
  ): Promise<Token> {
    const fetchThrough = (each: LiveSession) => this.#fetchThrough(each, authority, request, signal);
    const failures: ServiceError[] = [];
    for await (const outcome of patiently(sessions, fetchThrough, this.#clients.patience(request.host))) {
      if (outcome instanceof ServiceError) {
        failures.push(outcome);
      } else if (outcome !== undefined) {
        return outcome;
      }
    }
    throw (
      failures.find((failure) => failure instanceof PermissionDeniedError) ??
      failures.find((failure) => failure instanceof TokenServerFailure) ??
      failures[0] ??
      new UnavailableError("the client of the session has become another user")
    );
  }

  /** A token that the client of `session` gets, or why it does not; undefined if it is not the user of `authority`. */
  async #fetchThrough(
    session: LiveSession,
    authority: string,
    request: TokenRequest,
    signal: AbortSignal,
  ): Promise<Token | ServiceError | undefined> {
    try {
      if ((await this.#clients.authority(session, request.host, signal)) !== authority) {
        return undefined;
      }
    } catch {
      // Another client that cannot prove who it is, or does not answer, says nothing about this user.
      signal.throwIfAborted();
      return undefined;
    }
    try {
      return await this.#clients.fetchToken(session, request, signal);
    } catch (error) {
      signal.throwIfAborted();
      return fetchFailure(error, request.realm.host);
    }
  }
}

/** One of the sessions that may be asked. */
interface Candidate extends Pick<KeychainQuery, "host" | "scheme"> {
  readonly session: LiveSession;
  /** All of them. */
  readonly live: readonly LiveSession[];
}

/** An answer of a client that says that the token server has refused it, as BuildKit's clients put it. */
const refusal = /\b(?:400 Bad Request|401 Unauthorized|403 Forbidden)\b/i;

/** What a failed FetchToken of a client means. Its text is the client's own, and is not repeated. */
function fetchFailure(error: unknown, server: string): ServiceError {
  if (!(error instanceof ServiceError)) {
    throw error;
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
  const message = `Cannot get token from ${server} through the client of the session`;
  // A session that has ended will not come back.
  return error instanceof NotFoundError
    ? new UnavailableError(message, { cause: error })
    : new TokenServerFailure(message, { cause: error });
}

function obstacleOf(error: unknown): ServiceError {
  if (error instanceof NotFoundError) {
    return new UnavailableError("the session has ended");
  }
  if (error instanceof PermissionDeniedError || error instanceof MuteClientError) {
    return error;
  }
  if (error instanceof ServiceError) {
    return new UnavailableError("the client of the session could not be asked", { cause: error });
  }
  throw error;
}
