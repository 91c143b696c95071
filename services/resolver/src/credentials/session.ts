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
import { type TokenFetcher, TokenServerFailure, withRetries } from "../token/fetch-token.ts";
import { tokenOf } from "../token/token-answer.ts";
import { credentialsIdentity } from "./credentials-identity.ts";
import type {
  Credentials,
  Identity,
  Keychain,
  KeychainQuery,
  Obstacle,
  Token,
  TokenRequest,
} from "./identity.ts";
import { type Patience, patiently } from "./patiently.ts";
import type { LiveSession, SessionAuth } from "./session-auth.ts";
import { proveTokenAuthority } from "./token-authority.ts";

/** How long a client may take to answer; BuildKit's limit of each auth call. It may have to ask a person. */
const clientTimeoutMs = 60_000;

/** After this time the next client is asked, too. */
const clientPatienceMs = 5000;

/** A client that has not answered in all its time is not asked again for so long. */
const muteMs = 60_000;

/** How long the worker may take to say who is attached: it knows without asking anybody. */
const listTimeoutMs = 5000;

/** Sessions that are asked for one authorization; a hundred builds of one image have not a hundred users. */
const maxSessionsAsked = 32;

/** Sessions of which something is remembered. */
const maxMemories = 4096;

/** Limits in milliseconds; tests pass shorter ones. */
export interface SessionTimes {
  readonly timeoutMs: number;
  readonly patienceMs: number;
  readonly listTimeoutMs: number;
}

const defaultTimes: SessionTimes = {
  timeoutMs: clientTimeoutMs,
  patienceMs: clientPatienceMs,
  listTimeoutMs,
};

/**
 * The credentials of the clients whose builds want the image: the named sessions first, then the others that may be
 * asked. Sessions that have ended are not asked, and one that does not answer does not keep the others from it.
 *
 * A client with a token authority fetches its tokens itself and shows no password. Its identity is the key that it
 * has proved to hold; without one it is what it shows.
 */
export class SessionKeychain implements Keychain {
  readonly name = "session";
  readonly #sessions: SessionAuth;
  readonly #fetcher: TokenFetcher;
  readonly #times: SessionTimes;
  readonly #authorities = new BoundedMap<string, string>(maxMemories);
  /** Clients that have used up their time, and until when they are not asked. */
  readonly #mute = new BoundedMap<string, number>(maxMemories);
  /** Clients that have been passed over, and have not answered anything since. */
  readonly #slow = new BoundedMap<string, true>(maxMemories);
  readonly #proofs: Flights<string>;
  readonly #credentials: Flights<Credentials | undefined>;

  constructor(sessions: SessionAuth, fetcher: TokenFetcher, times: Partial<SessionTimes> = {}) {
    this.#sessions = sessions;
    this.#fetcher = fetcher;
    this.#times = { ...defaultTimes, ...times };
    this.#proofs = new Flights({ timeoutMs: this.#times.timeoutMs });
    this.#credentials = new Flights({ timeoutMs: this.#times.timeoutMs });
  }

  async *identities(query: KeychainQuery, signal: AbortSignal): AsyncGenerator<Identity | Obstacle> {
    if (query.sessionIDs.length === 0 && !query.anySession) {
      return;
    }
    const live = await this.#live(query, signal);
    if (live.length === 0) {
      yield { obstacle: new UnavailableError("no active sessions") };
    }
    const identityOf = (session: LiveSession) => this.#identity({ session, live, ...query }, signal);
    const told = new Set<string>();
    for await (const found of patiently(live, identityOf, this.#patience(query.host))) {
      // Several sessions of one user are one identity: what is refused to one is refused to all.
      if (found !== undefined && !("key" in found && told.has(found.key))) {
        yield found;
      }
      if (found !== undefined && "key" in found) {
        told.add(found.key);
      }
    }
  }

  /** The sessions to ask, those that are slow at the moment last. */
  async #live(query: KeychainQuery, signal: AbortSignal): Promise<LiveSession[]> {
    const { host, sessionIDs, reference, anySession } = query;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(this.#times.listTimeoutMs)]);
    try {
      const live = await this.#sessions.liveSessions({ sessionIDs, ...(anySession && { reference }) }, limit);
      const rank = (session: LiveSession) => (this.#slow.get(keyOf(session, host)) === true ? 1 : 0);
      return live.slice(0, maxSessionsAsked).toSorted((a, b) => rank(a) - rank(b));
    } catch (cause) {
      signal.throwIfAborted();
      if (limit.aborted) {
        const message = `the worker has not said within ${this.#times.listTimeoutMs} ms which sessions there are`;
        throw new UnavailableError(message, { cause });
      }
      throw cause;
    }
  }

  #patience(host: string): Patience<LiveSession> {
    return {
      patienceMs: this.#times.patienceMs,
      onSlow: (session) => this.#slow.set(keyOf(session, host), true),
    };
  }

  /** Asks the client of a session within its time, once for all who want to know the same. */
  async #ask<T>(
    flights: Flights<T>,
    key: string,
    work: (limit: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const limited = async (limit: AbortSignal) => {
      try {
        const answer = await work(limit);
        this.#slow.delete(key);
        return answer;
      } catch (cause) {
        if (!limit.aborted) {
          throw cause;
        }
        this.#mute.set(key, Date.now() + muteMs);
        throw new MuteClientError(
          `the client of the session has not answered within ${this.#times.timeoutMs} ms`,
          { cause },
        );
      }
    };
    return await flights.join(key, limited, signal);
  }

  /** Who is behind `session`; undefined if its client has nothing for `host`. */
  async #identity(candidate: Candidate, signal: AbortSignal): Promise<Identity | Obstacle | undefined> {
    const { session, host, scheme } = candidate;
    const key = keyOf(session, host);
    if ((this.#mute.get(key) ?? 0) > Date.now()) {
      return { obstacle: new UnavailableError("the client of the session does not answer") };
    }
    try {
      const authority = scheme === "bearer" ? await this.#authority(session, host, signal) : undefined;
      if (authority !== undefined) {
        return this.#authorityIdentity(candidate, authority);
      }
      if (!session.methods.has("credentials")) {
        return undefined;
      }
      const ask = (limit: AbortSignal) => this.#sessions.credentials(session.id, host, limit);
      const credentials = await this.#ask(this.#credentials, key, ask, signal);
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
      const authority = await this.#ask(this.#proofs, key, prove, signal);
      this.#authorities.set(key, authority);
      return authority;
    } catch (error) {
      // The client has it switched off, or is gone; then its credentials cannot be asked for either.
      const isGone = error instanceof UnavailableError && !(error instanceof MuteClientError);
      if (error instanceof UnimplementedError || isGone) {
        return undefined;
      }
      throw error;
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
    for await (const outcome of patiently(sessions, fetchThrough, this.#patience(request.host))) {
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
      if ((await this.#authority(session, request.host, signal)) !== authority) {
        return undefined;
      }
    } catch {
      // Another client that cannot prove who it is, or does not answer, says nothing about this user.
      signal.throwIfAborted();
      return undefined;
    }
    try {
      const { value, lifetime } = await this.#sessions.fetchToken(session.id, request, signal);
      this.#slow.delete(keyOf(session, request.host));
      return tokenOf(value.reveal(), lifetime, Date.now());
    } catch (error) {
      signal.throwIfAborted();
      return fetchFailure(error, request.realm.host);
    }
  }
}

/** A client has used up its time. */
class MuteClientError extends UnavailableError {}

/** One of the sessions that may be asked. */
interface Candidate extends Pick<KeychainQuery, "host" | "scheme"> {
  readonly session: LiveSession;
  /** All of them. */
  readonly live: readonly LiveSession[];
}

/** One stay of one client at one registry: its id alone may come again with another client. */
function keyOf({ id, attachedAt }: LiveSession, host: string): string {
  return JSON.stringify([id, attachedAt, host]);
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
