import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { maxConfigBytes } from "@oci-worker/credentials/docker-config";
import { UnavailableError } from "@oci-worker/errdefs";
import { parseReference } from "@oci-worker/oci/reference";
import { FreshFile } from "../fresh-file.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { found } from "./found.ts";
import type { Identity, Keychain, KeychainQuery, Obstacle } from "./identity.ts";
import { authsFor, type PullSecret, type PullSecretFormat, parsePullSecret } from "./pull-secret.ts";
import { storedIdentity } from "./stored-identity.ts";

/** Secrets that are looked at; a pod has a handful. */
const maxSecrets = 256;

/** Names of files that hold a secret. A projected volume may give each a name of its own before the dot. */
const fileName = /\.(dockerconfigjson|dockercfg|json)$/;

/** What the kubelet keeps beside the keys of a volume: the versions of its content, and the link to the one that counts. */
const isVolumesOwn = (name: string) => name.startsWith("..");

const absentCodes: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);

/**
 * Kubernetes pull secrets that are mounted into our pod: in a directory, or each in a directory of its own in there.
 *
 * They are read again when the kubelet has exchanged them, and may come and go. They are the operator's, so every build
 * and every snapshot may use them.
 */
export class KubernetesKeychain implements Keychain {
  readonly name = "kubernetes";
  readonly #directory: string;
  readonly #fetcher: TokenFetcher;
  #files = new Map<string, FreshFile<PullSecret>>();

  constructor(directory: string, fetcher: TokenFetcher) {
    this.#directory = directory;
    this.#fetcher = fetcher;
  }

  /** Of each secret what fits the image best comes first. A secret that is no good spoils no other. */
  async *identities(
    { host, reference }: Pick<KeychainQuery, "host" | "reference">,
    signal: AbortSignal,
  ): AsyncGenerator<Identity | Obstacle> {
    const { repository } = parseReference(reference);
    for (const file of await this.#list()) {
      yield* found(async () => {
        const secret = (await file.read()) ?? [];
        return authsFor(secret, host, repository).map((stored) => storedIdentity(stored, this.#fetcher));
      }, signal);
    }
  }

  /** Files by name, so that their order is always the same. */
  async #list(): Promise<FreshFile<PullSecret>[]> {
    const paths: string[] = [];
    for (const name of await namesIn(this.#directory)) {
      const path = join(this.#directory, name);
      if (fileName.test(name)) {
        paths.push(path);
      } else {
        const inside = (await namesIn(path)).filter((each) => fileName.test(each));
        paths.push(...inside.map((each) => join(path, each)));
      }
    }
    if (paths.length > maxSecrets) {
      throw new UnavailableError(
        `Cannot use ${this.#directory}: it has ${paths.length} pull secrets, want at most ${maxSecrets}`,
      );
    }
    const before = this.#files;
    this.#files = new Map(paths.map((path) => [path, before.get(path) ?? openSecret(path)]));
    return [...this.#files.values()];
  }
}

function openSecret(path: string): FreshFile<PullSecret> {
  const format: PullSecretFormat = path.endsWith(".dockercfg") ? "dockercfg" : "dockerconfigjson";
  return new FreshFile(path, maxConfigBytes, (bytes) => parsePullSecret(bytes, format));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => !isVolumesOwn(name)).sort();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && absentCodes.has(String(cause.code))) {
      return [];
    }
    throw new UnavailableError(`Cannot use ${directory}: it cannot be read`, { cause });
  }
}
