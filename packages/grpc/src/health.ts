import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { NotFoundError } from "@oci-worker/errdefs";
import { type Implementation, implement } from "./server/router.ts";

/**
 * grpc.health.v1 for the services of one server: each of them and the server as a whole ("").
 *
 * {@link stop} says NOT_SERVING from then on, so that load balancers and kubelets go elsewhere while calls drain.
 */
export class HealthService {
  readonly implementation: Implementation;
  readonly #names: ReadonlySet<string>;
  readonly #stopped = Promise.withResolvers<void>();
  #status: ServingStatus = ServingStatus.SERVING;

  /** @param services the full names of the services that are served, such as `moby.buildkit.v1.Control`. */
  constructor(services: readonly string[]) {
    this.#names = new Set(["", ...services]);
    this.implementation = implement(Health, {
      check: ({ service }) => {
        this.#require(service);
        return { status: this.#status };
      },
      watch: (request, { signal }) => this.#watch(request.service, signal),
    });
  }

  stop(): void {
    this.#status = ServingStatus.NOT_SERVING;
    this.#stopped.resolve();
  }

  async *#watch(service: string, signal: AbortSignal) {
    if (!this.#names.has(service)) {
      yield { status: ServingStatus.SERVICE_UNKNOWN };
      return;
    }
    yield { status: this.#status };
    const aborted = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => aborted.resolve(), { once: true });
    await Promise.race([this.#stopped.promise, aborted.promise]);
    if (!signal.aborted) {
      yield { status: this.#status };
    }
  }

  #require(service: string): void {
    if (!this.#names.has(service)) {
      throw new NotFoundError(`Cannot check ${JSON.stringify(service)}: this server has no such service`);
    }
  }
}
