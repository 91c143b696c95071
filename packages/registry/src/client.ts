import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Authorizer } from "./authorizer.ts";
import { Endpoint, type OutcomeObserver } from "./endpoint.ts";
import { HostGates } from "./gate.ts";
import type { RegistryHost } from "./host.ts";
import { HttpClient, type HttpClientOptions } from "./http/client.ts";
import { Repository } from "./repository.ts";
import { type Delay, type Retry, realDelay } from "./retry.ts";

export type { OutcomeObserver };

export interface RegistryClientOptions extends HttpClientOptions {
  /** Blobs that are moved at a time between us and one host; one more request is let in for documents. */
  readonly maxBlobsPerHost?: number;
  /** Waits before a retry; tests pass one that does not wait. */
  readonly delay?: Delay;
}

export interface RepositoryOptions {
  /** Hosts that serve it, in the order in which to try them. */
  readonly hosts: readonly RegistryHost[];
  /** Path of the repository, such as `library/alpine`. */
  readonly repository: string;
  /** Absent: requests carry no authorization. */
  readonly authorizer?: Authorizer;
  /** Told before each wait, for whoever watches. */
  readonly onRetry?: (retry: Retry) => void;
  /** Told how a host did with each request. */
  readonly onOutcome?: OutcomeObserver;
}

/** BuildKit's number (util/resolver/limited). */
const defaultMaxBlobsPerHost = 4;

/** A path that cannot lead out of the registry's own: distribution/reference says the same more strictly. */
const repositoryPath = /^[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9][a-z0-9._-]*)*$/;

/**
 * Speaks to registries. One for the life of a program: it keeps connections, and limits how many requests a host gets
 * at a time. Disposing closes all connections, those in use too.
 */
export class RegistryClient implements Disposable {
  readonly #http: HttpClient;
  readonly #maxBlobsPerHost: number;
  readonly #delay: Delay;
  readonly #gates = new Map<string, HostGates>();

  constructor(options: RegistryClientOptions = {}) {
    this.#http = new HttpClient(options);
    this.#maxBlobsPerHost = options.maxBlobsPerHost ?? defaultMaxBlobsPerHost;
    this.#delay = options.delay ?? realDelay;
  }

  /**
   * One repository. Asks nobody yet; what is learnt about authorization is kept as long as it is.
   *
   * @throws {InvalidArgumentError} if the path is no path of a repository.
   */
  repository({ hosts, repository, authorizer, onRetry, onOutcome }: RepositoryOptions): Repository {
    if (!repositoryPath.test(repository)) {
      throw new InvalidArgumentError(
        `Cannot use ${JSON.stringify(repository.slice(0, 300))} as the path of a repository`,
      );
    }
    const client = this.#http;
    const endpoints = hosts.map(
      (host) => new Endpoint({ client, host, repository, authorizer, onOutcome, gates: this.#gatesOf(host) }),
    );
    return new Repository({ name: repository, endpoints, client, delay: this.#delay, onRetry });
  }

  [Symbol.dispose](): void {
    this.#http[Symbol.dispose]();
  }

  #gatesOf({ host }: RegistryHost): HostGates {
    const known = this.#gates.get(host);
    if (known !== undefined) {
      return known;
    }
    const gates = new HostGates(this.#maxBlobsPerHost);
    this.#gates.set(host, gates);
    return gates;
  }
}
