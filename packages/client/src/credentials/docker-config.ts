import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { askCredentialHelper } from "@oci-worker/credentials/credential-helper";
import type { Credentials } from "@oci-worker/credentials/credentials";
import {
  authFor,
  type DockerConfig,
  helperFor,
  parseDockerConfig,
} from "@oci-worker/credentials/docker-config";
import type { CredentialSource } from "./credentials.ts";

/** A helper may ask a person to unlock a keychain. One that takes longer is stuck. In milliseconds. */
const helperPatienceMs = 60_000;

/** The directory of docker's configuration: `$DOCKER_CONFIG`, or `.docker` at home. */
export function dockerConfigDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return environment["DOCKER_CONFIG"] || join(homedir(), ".docker");
}

/**
 * The credentials that `docker login` has stored: in `config.json` of `directory`, or with the helper programs that it
 * names.
 *
 * The file is read each time, so a login during a long build counts. Without one nothing is known.
 *
 * @throws (when asked) {InvalidArgumentError} naming the field, if the file is not as docker writes it.
 * @throws (when asked) {UnavailableError} if a helper fails.
 */
export function dockerConfig(directory: string = dockerConfigDirectory()): CredentialSource {
  return {
    async find(host, signal) {
      const config = await readConfig(join(directory, "config.json"));
      return config && (await lookUp(config, host, signal));
    },
  };
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  try {
    return parseDockerConfig(await readFile(path), `docker config ${path}`);
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw error;
  }
}

/** A helper for this registry, then the helper for all, then the file itself. */
async function lookUp(
  config: DockerConfig,
  host: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | undefined> {
  const helper = helperFor(config, host);
  if (helper !== undefined) {
    const patience = AbortSignal.timeout(helperPatienceMs);
    const ends = signal === undefined ? patience : AbortSignal.any([signal, patience]);
    const found = await askCredentialHelper(helper.name, helper.server, ends, { repeatWords: true });
    if (found !== undefined) {
      return found;
    }
  }
  return authFor(config, host)[0];
}
