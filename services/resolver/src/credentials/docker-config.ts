import { readFile, stat } from "node:fs/promises";
import { InvalidArgumentError, ServiceError, UnavailableError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import type { TokenFetcher } from "../token/fetch-token.ts";
import type { Secret } from "../token/secret.ts";
import { tokenOf } from "../token/token-answer.ts";
import { askCredentialHelper } from "./credential-helper.ts";
import { credentialsIdentity } from "./credentials-identity.ts";
import {
  authFor,
  type DockerConfig,
  helperFor,
  maxConfigBytes,
  parseDockerConfig,
} from "./docker-config-file.ts";
import {
  type Credentials,
  credentialsKey,
  type Identity,
  type Keychain,
  type KeychainQuery,
  type Obstacle,
} from "./identity.ts";

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
  readonly #path: string;
  readonly #fetcher: TokenFetcher;
  readonly #helpers = new Flights<Credentials | undefined>({ timeoutMs: helperTimeoutMs });
  #state = "";
  #config = nothing;

  constructor(path: string, fetcher: TokenFetcher) {
    this.#path = path;
    this.#fetcher = fetcher;
  }

  /** What a helper knows comes first, as with Docker, and what stands in the file itself after it. */
  async *identities(
    { host }: Pick<KeychainQuery, "host">,
    signal: AbortSignal,
  ): AsyncGenerator<Identity | Obstacle> {
    yield* this.#found(() => this.#fromHelper(host, signal), signal);
    yield* this.#found(() => this.#fromFile(host), signal);
  }

  /** What `find` gives; what it throws is an obstacle on the way, and not the end of it. */
  async *#found(find: () => Promise<Identity[]>, signal: AbortSignal): AsyncGenerator<Identity | Obstacle> {
    try {
      yield* await find();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ServiceError)) {
        throw error;
      }
      yield { obstacle: error };
    }
  }

  async #fromHelper(host: string, signal: AbortSignal): Promise<Identity[]> {
    const query = helperFor(await this.#read(), host);
    if (query === undefined) {
      return [];
    }
    const { name, server } = query;
    const ask = (limit: AbortSignal) => askCredentialHelper(name, server, limit);
    const credentials = await this.#helpers.join(JSON.stringify([name, server]), ask, signal);
    return credentials === undefined ? [] : [credentialsIdentity(credentials, this.#fetcher)];
  }

  async #fromFile(host: string): Promise<Identity[]> {
    const { registryToken, credentials } = authFor(await this.#read(), host) ?? {};
    return [
      ...(registryToken === undefined ? [] : [registryTokenIdentity(registryToken)]),
      ...(credentials === undefined ? [] : [credentialsIdentity(credentials, this.#fetcher)]),
    ];
  }

  async #read(): Promise<DockerConfig> {
    try {
      const { ino, mtimeNs, size } = await stat(this.#path, { bigint: true });
      const state = `${ino}:${mtimeNs}:${size}`;
      if (state !== this.#state) {
        if (size > maxConfigBytes) {
          throw new InvalidArgumentError(`it has ${size} bytes, want at most ${maxConfigBytes}`);
        }
        this.#config = parseDockerConfig(await readFile(this.#path));
        this.#state = state;
      }
      return this.#config;
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
        this.#state = "";
        return nothing;
      }
      const reason = cause instanceof ServiceError ? cause.message : "it cannot be opened";
      throw new UnavailableError(`Cannot use ${this.#path}: ${reason}`, { cause });
    }
  }
}

/** Someone who has a token for the registry already, and nobody knows for how long. */
function registryTokenIdentity(token: Secret): Identity {
  return {
    key: credentialsKey({ username: "registrytoken", secret: token }),
    fetchToken: () => Promise.resolve(tokenOf(token.reveal(), { seconds: 0 }, Date.now())),
  };
}
