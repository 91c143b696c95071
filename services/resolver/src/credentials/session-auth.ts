import type { Secret } from "@oci-worker/credentials/secret";
import type { Lifetime } from "../token/token-answer.ts";
import type { Credentials, TokenRequest } from "./identity.ts";

/** What of a session's Auth service a client may lack. */
export type AuthMethod = "credentials" | "fetchToken" | "getTokenAuthority" | "verifyTokenAuthority";

/** A client that is attached to the worker. */
export interface LiveSession {
  /** As the client made it up, so another client may come with the same one later: see {@link attachedAt}. */
  readonly id: string;
  readonly methods: ReadonlySet<AuthMethod>;
  /** Moment at which it was attached, as a text to compare. */
  readonly attachedAt: string;
}

/** Which sessions; those that meet either condition. */
interface SessionQuery {
  readonly sessionIDs: readonly string[];
  /** Sessions whose builds have used this image, normalised; undefined for none. */
  readonly reference?: string;
}

/**
 * The clients that are attached to the worker, and what they know.
 *
 * Errors are the worker's or the client's own: NotFoundError if the session has ended, UnimplementedError if the client
 * does not offer the method, UnavailableError if the worker or the client could not be asked.
 */
export interface SessionAuth {
  /** Live sessions: those named, in the order of the query, then the others, the newest first. */
  liveSessions(query: SessionQuery, signal: AbortSignal): Promise<LiveSession[]>;

  /** What the client has for `host`; undefined if nothing. */
  credentials(sessionID: string, host: string, signal: AbortSignal): Promise<Credentials | undefined>;

  fetchToken(
    sessionID: string,
    request: TokenRequest,
    signal: AbortSignal,
  ): Promise<{ readonly value: Secret; readonly lifetime: Lifetime }>;

  /** The public key that stands for the client's user at `host`. */
  tokenAuthority(sessionID: string, host: string, salt: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;

  /** An ed25519 signature of `payload` followed by `payload`, by which the client proves that it holds the key. */
  proveTokenAuthority(
    sessionID: string,
    challenge: TokenAuthorityChallenge,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
}

export interface TokenAuthorityChallenge {
  readonly host: string;
  readonly payload: Uint8Array;
  readonly salt: Uint8Array;
}
