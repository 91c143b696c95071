import { createHmac, randomBytes } from "node:crypto";
import { Secret } from "@oci-worker/credentials/secret";
import type { ServiceError } from "@oci-worker/errdefs";
import type { TlsSettings } from "@oci-worker/registry/host";

/** A way to authenticate that registries ask for and we know. */
export type Scheme = "basic" | "bearer";

/** A token server, and what is wanted of it. */
export interface TokenRequest {
  /** The registry endpoint that asked for the token, with `:port` if it has one. */
  readonly host: string;
  /** The token server. */
  readonly realm: URL;
  /** How to connect to it; absent for the defaults of the system. */
  readonly tls?: TlsSettings;
  /** The registry's name towards it; empty if the challenge says none. */
  readonly service: string;
  /** In the order of `mergeScopes`. */
  readonly scopes: readonly string[];
}

/** A token, and until when it is good. */
export interface Token {
  readonly value: Secret;
  /** Milliseconds since 1970 at which to get another one, some time before it expires. */
  readonly renewAtMs: number;
  /** Milliseconds since 1970 up to which it may still do where there is no other one. */
  readonly expiresAtMs: number;
}

/** Someone as whom a registry can be asked. */
export interface Identity {
  /**
   * Two identities with equal keys have proved that they have the same rights at the host that was asked for, so one
   * may use what the other got. Holds no secret.
   */
  readonly key: string;
  /** Value of the Authorization header for Basic; undefined for an identity that has no password. */
  readonly basic?: Secret;
  /**
   * Gets a token.
   *
   * @throws PermissionDeniedError if the token server refuses this identity, UnavailableError if it could not be asked.
   */
  fetchToken(request: TokenRequest, signal: AbortSignal): Promise<Token>;
}

/** Why a keychain could not look for an identity where there may be one. */
export interface Obstacle {
  readonly obstacle: ServiceError;
}

/** Whose credentials are wanted. */
export interface KeychainQuery {
  /** The registry endpoint, with `:port` if it has one. */
  readonly host: string;
  readonly scheme: Scheme;
  /** The image, normalised. */
  readonly reference: string;
  readonly sessionIDs: readonly string[];
  /** Whether other sessions that use the image may be asked, too. */
  readonly anySession: boolean;
}

/** A place where credentials are kept. */
export interface Keychain {
  /** Name by which it is configured, and told of. */
  readonly name: string;
  /** Its credentials are clients' own, or none at all; absent: the operator's. */
  readonly isClients?: true;
  /** Identities for `query`, the best first. What is behind a later one is not asked unless it is reached. */
  identities(query: KeychainQuery, signal: AbortSignal): AsyncIterable<Identity | Obstacle>;
}

/** User name and password; an empty user name beside a secret means an identity token for the OAuth2 endpoint. */
export interface Credentials {
  readonly username: string;
  readonly secret: Secret;
}

/** Chosen anew by each process, so that a key tells nothing about the secret to whoever does not have it already. */
const keyOfKeys = randomBytes(32);

/** The key of an identity that shows `credentials`. */
export function credentialsKey({ username, secret }: Credentials): string {
  const hmac = createHmac("sha256", keyOfKeys).update(JSON.stringify([username, secret.reveal()]));
  return `credentials:${hmac.digest("hex")}`;
}

/** The Authorization value for Basic. */
export function basicValue({ username, secret }: Credentials): Secret | undefined {
  const pair = Buffer.from(`${username}:${secret.reveal()}`);
  return username === "" ? undefined : new Secret(`Basic ${pair.toString("base64")}`);
}
