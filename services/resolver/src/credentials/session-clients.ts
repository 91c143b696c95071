import { UnavailableError, UnimplementedError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { BoundedMap } from "../bounded-map.ts";
import { tokenOf } from "../token/token-answer.ts";
import type { Credentials, KeychainQuery, Token, TokenRequest } from "./identity.ts";
import type { Patience } from "./patiently.ts";
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

/** A client has used up its time. */
export class MuteClientError extends UnavailableError {}

/**
 * The clients behind sessions, each asked within its time, and once for all who want to know the same.
 *
 * One that takes long is remembered as slow until it answers; one that has used up its time is not asked for a while.
 */
export class SessionClients {
  readonly #sessions: SessionAuth;
  readonly #times: SessionTimes;
  readonly #authorities = new BoundedMap<string, string>(maxMemories);
  /** Clients that have used up their time, and until when they are not asked. */
  readonly #mute = new BoundedMap<string, number>(maxMemories);
  /** Clients that have been passed over, and have not answered anything since. */
  readonly #slow = new BoundedMap<string, true>(maxMemories);
  readonly #proofs: Flights<string>;
  readonly #credentials: Flights<Credentials | undefined>;

  constructor(sessions: SessionAuth, times: Partial<SessionTimes> = {}) {
    this.#sessions = sessions;
    this.#times = { ...defaultTimes, ...times };
    this.#proofs = new Flights({ timeoutMs: this.#times.timeoutMs });
    this.#credentials = new Flights({ timeoutMs: this.#times.timeoutMs });
  }

  /** The sessions to ask, those that are slow at the moment last. */
  async live(query: KeychainQuery, signal: AbortSignal): Promise<LiveSession[]> {
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

  /** How long to wait for one of them before the next is asked, too. */
  patience(host: string): Patience<LiveSession> {
    return {
      patienceMs: this.#times.patienceMs,
      onSlow: (session) => this.#slow.set(keyOf(session, host), true),
    };
  }

  /** User name and password of a session's client for `host`; undefined if it has none, or does not tell. */
  async credentials(
    session: LiveSession,
    host: string,
    signal: AbortSignal,
  ): Promise<Credentials | undefined> {
    if (!session.methods.has("credentials")) {
      return undefined;
    }
    const ask = (limit: AbortSignal) => this.#sessions.credentials(session.id, host, limit);
    return await this.#ask(this.#credentials, keyOf(session, host), ask, signal);
  }

  /** The proved key of a session's client; undefined if the client keeps to its password. */
  async authority(session: LiveSession, host: string, signal: AbortSignal): Promise<string | undefined> {
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

  /** A token that the client of `session` gets. */
  async fetchToken(session: LiveSession, request: TokenRequest, signal: AbortSignal): Promise<Token> {
    const { value, lifetime } = await this.#sessions.fetchToken(session.id, request, signal);
    this.#slow.delete(keyOf(session, request.host));
    return tokenOf(value.reveal(), lifetime, Date.now());
  }

  /** Asks the client of a session within its time, once for all who want to know the same. */
  async #ask<T>(
    flights: Flights<T>,
    key: string,
    work: (limit: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    if ((this.#mute.get(key) ?? 0) > Date.now()) {
      throw new MuteClientError("the client of the session does not answer");
    }
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
}

/** One stay of one client at one registry: its id alone may come again with another client. */
function keyOf({ id, attachedAt }: LiveSession, host: string): string {
  return JSON.stringify([id, attachedAt, host]);
}
