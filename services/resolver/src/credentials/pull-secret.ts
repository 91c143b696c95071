import type { Credentials } from "@oci-worker/credentials/credentials";
import { maxConfigBytes, parseAuth } from "@oci-worker/credentials/docker-config";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import {
  byPrecision,
  parseRegistryPattern,
  patternMatches,
  type RegistryPattern,
} from "./registry-pattern.ts";

/** One entry of a pull secret. What it says is read when it is asked for. */
interface PullSecretEntry {
  readonly pattern: RegistryPattern;
  readonly fields: Fields;
}

/** The entries of a Kubernetes pull secret, the most precise first. */
export type PullSecret = readonly PullSecretEntry[];

/** How the content of a secret is laid out. */
export type PullSecretFormat = "dockerconfigjson" | "dockercfg";

/**
 * Reads the content of a secret of type kubernetes.io/dockerconfigjson, or of the older kubernetes.io/dockercfg, which
 * is the entries alone. Nothing of its values gets into an error.
 *
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function parsePullSecret(bytes: Uint8Array, format: PullSecretFormat): PullSecret {
  const what = "pull secret";
  const document = parseDocument(what, bytes, maxConfigBytes);
  const fields = new Fields(what, format === "dockercfg" ? { auths: document } : document);
  return fields
    .entries("auths")
    .flatMap(([key, entry]) => {
      const pattern = parseRegistryPattern(key);
      return pattern === undefined ? [] : [{ pattern, fields: entry }];
    })
    .sort((a, b) => byPrecision(a.pattern, b.pattern));
}

/**
 * What a pull secret has for `repository` at the endpoint `host`, the best first: the kubelet, too, tries all that match.
 *
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function authsFor(secret: PullSecret, host: string, repository: string): Credentials[] {
  return secret
    .filter(({ pattern }) => patternMatches(pattern, host, repository))
    .flatMap(({ fields }) => parseAuth(fields));
}
