import { InvalidArgumentError } from "@oci-worker/errdefs";
import { formatReference } from "@oci-worker/oci/reference";
import type { RegistryHost } from "@oci-worker/registry/host";
import { type Grantee, parseHandle } from "./handle.ts";
import type { RegistryHosts } from "./hosts/hosts.ts";

export interface AuthorizationRequest {
  readonly handle: string;
  /** Endpoint that the request goes to. */
  readonly host: string;
  /** WWW-Authenticate values of the 401 just received; none before the first request. */
  readonly challenges: readonly string[];
  /** Lower-case hex sha256 of the Authorization value that this 401 refused; empty if none was sent. */
  readonly refusedSha256: string;
  readonly extraScopes: readonly string[];
}

/** A request for an authorization, understood. */
export interface Inquiry {
  readonly grantee: Grantee;
  /** The image, normalised. */
  readonly reference: string;
  readonly host: RegistryHost;
  /** Repository and access at that host: what an identity has rights to or not. */
  readonly target: string;
  readonly refusedSha256: string;
  readonly extraScopes: readonly string[];
}

const sha256Pattern = /^(?:[0-9a-f]{64})?$/;

/** Scopes that one request may need beside its own, and the length of each. */
const maxExtraScopes = 16;
const maxScopeLength = 1024;

/** @throws {InvalidArgumentError} for a handle, host, hash or scope that makes no sense. */
export async function understand(hosts: RegistryHosts, request: AuthorizationRequest): Promise<Inquiry> {
  const { handle, refusedSha256, extraScopes } = request;
  const grantee = parseHandle(handle);
  const host = await hostOf(hosts, grantee, request.host);
  if (!sha256Pattern.test(refusedSha256)) {
    throw new InvalidArgumentError(
      "Cannot authorize: want the refused authorization as 64 lower-case hex digits of its sha256",
    );
  }
  if (extraScopes.length > maxExtraScopes || extraScopes.some((scope) => scope.length > maxScopeLength)) {
    throw new InvalidArgumentError(
      `Cannot authorize at ${host.host}: want at most ${maxExtraScopes} extra scopes of ${maxScopeLength} characters`,
    );
  }
  const { reference, access } = grantee;
  return {
    grantee,
    reference: formatReference(reference),
    host,
    target: JSON.stringify([host.host, reference.repository, access]),
    refusedSha256,
    extraScopes,
  };
}

/**
 * The host `name` of what `grantee` may be asked for.
 *
 * @throws {InvalidArgumentError} if it is none of them.
 */
export async function hostOf(
  registries: RegistryHosts,
  { reference, access }: Grantee,
  name: string,
): Promise<RegistryHost> {
  const hosts = await registries.of(reference.domain, access);
  const [host, ...others] = hosts.filter((each) => each.host === name);
  if (host === undefined) {
    const known = hosts.map((each) => each.host).join(", ");
    throw new InvalidArgumentError(
      `Cannot authorize at ${JSON.stringify(name.slice(0, 300))}: it does not serve ${reference.domain}, want one of ${known}`,
    );
  }
  // One that is spoken to with and without TLS is there twice; the caller does not say which of them has refused.
  const plain = others.find(({ scheme }) => scheme === "http");
  return plain === undefined ? host : { ...host, scheme: plain.scheme };
}
