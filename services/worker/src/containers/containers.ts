import { AlreadyExistsError, FailedPreconditionError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { type Container, noContainer } from "./container.ts";

/** A build that makes more than these has lost count of them. Each has snapshots, and at most one runtime a process. */
const maxContainers = 256;

/** The containers of one build, by the names that its client gives them. Disposing releases them. */
export class Containers implements AsyncDisposable {
  /** Those included that are being made. */
  readonly #containers = new Map<string, Promise<Container>>();
  #isClosed = false;

  /**
   * Has `make` make the container `id`.
   *
   * @throws {AlreadyExistsError} if there is one, in upstream's words.
   * @throws {ResourceExhaustedError} if there are too many.
   */
  async open(id: string, make: () => Promise<Container>): Promise<void> {
    if (this.#isClosed) {
      throw new FailedPreconditionError(`Cannot make container ${id}: its build has ended`);
    }
    if (this.#containers.has(id)) {
      throw new AlreadyExistsError(`Container ${id} already exists`);
    }
    if (this.#containers.size >= maxContainers) {
      throw new ResourceExhaustedError(
        `Cannot make container ${id}: its build has ${maxContainers}, want some of them released`,
      );
    }
    const making = make();
    this.#containers.set(id, making);
    try {
      await making;
    } catch (error) {
      this.#containers.delete(id);
      throw error;
    }
  }

  /** @throws {NotFoundError} if there is none, in upstream's words. */
  async get(id: string): Promise<Container> {
    const container = await this.#containers.get(id);
    if (container === undefined) {
      throw noContainer(id);
    }
    return container;
  }

  /**
   * Ends the container `id` and all that runs in it.
   *
   * @throws {NotFoundError} if there is none.
   * @throws how the first of its processes has failed, if one has, when all is done: upstream's clients expect that.
   */
  async release(id: string): Promise<void> {
    const container = await this.get(id);
    this.#containers.delete(id);
    const failure = await container.release();
    if (failure !== undefined) {
      throw failure;
    }
  }

  /** Also waits for those that are being made. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const releases = [...this.#containers.values()].map(async (making) => {
      const container = await making.catch(() => undefined);
      await container?.release();
    });
    this.#containers.clear();
    const failed = (await Promise.allSettled(releases)).find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") {
      throw failed.reason;
    }
  }
}
