import { askCredentialHelper } from "@oci-worker/credentials/credential-helper";
import type { Credentials } from "@oci-worker/credentials/credentials";
import {
  authFor,
  type DockerConfig,
  helperFor,
  maxConfigBytes,
  parseDockerConfig,
} from "@oci-worker/credentials/docker-config";
import { Flights } from "@oci-worker/flights";
import { FreshFile } from "../fresh-file.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { found } from "./found.ts";
import type { Identity, Keychain, KeychainQuery, Obstacle } from "./identity.ts";
import { storedIdentity } from "./stored-identity.ts";

/** How long a credential helper may take. */
const helperTimeoutMs = 30_000;

const nothing: DockerConfig = { auths: new Map(), helpers: {}, defaultHelper: undefined };

/**
 * The credentials in a docker `config.json` and in the credential helpers that it names. They are the operator's, so
 * every build and every snapshot may use them.
 *
 * The file is read again when it has changed, and may come and go.
 */
export class DockerConfigKeychain implements Keychain {
  readonly name = "docker-config";
  readonly #file: FreshFile<DockerConfig>;
  readonly #fetcher: TokenFetcher;
  readonly #helpers = new Flights<Credentials | undefined>({ timeoutMs: helperTimeoutMs });

  constructor(path: string, fetcher: TokenFetcher) {
    this.#file = new FreshFile(path, maxConfigBytes, (bytes) => parseDockerConfig(bytes));
    this.#fetcher = fetcher;
  }

  /** What a helper knows comes first, as with Docker, and what stands in the file itself after it. */
  async *identities(
    { host }: Pick<KeychainQuery, "host">,
    signal: AbortSignal,
  ): AsyncGenerator<Identity | Obstacle> {
    yield* found(() => this.#fromHelper(host, signal), signal);
    yield* found(() => this.#fromFile(host), signal);
  }

  async #fromHelper(host: string, signal: AbortSignal): Promise<Identity[]> {
    const query = helperFor(await this.#read(), host);
    if (query === undefined) {
      return [];
    }
    const { name, server } = query;
    const ask = (limit: AbortSignal) => askCredentialHelper(name, server, limit);
    const credentials = await this.#helpers.join(JSON.stringify([name, server]), ask, signal);
    return credentials === undefined ? [] : [storedIdentity(credentials, this.#fetcher)];
  }

  async #fromFile(host: string): Promise<Identity[]> {
    return authFor(await this.#read(), host).map((stored) => storedIdentity(stored, this.#fetcher));
  }

  async #read(): Promise<DockerConfig> {
    return (await this.#file.read()) ?? nothing;
  }
}
