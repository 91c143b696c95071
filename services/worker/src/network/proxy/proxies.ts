import { Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import type { OpenProxy, ProxyAnswer, ProxyOrder } from "./messages.ts";
import type { RequestSummary } from "./request-log.ts";

/**
 * Runs proxies of steps, all of them in one thread, which begins with the first: what they carry is read, encrypted and
 * decrypted there. Disposing ends it, and them.
 */
export class Proxies implements AsyncDisposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<ProxyAnswer>>();
  #thread: Worker | undefined;
  #lastId = 0;

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.terminate();
  }

  /**
   * Opens a proxy that listens in one name space and asks from another (undefined: from the worker's own).
   *
   * @returns the number to close it by.
   * @throws {UnavailableError} if it cannot be.
   */
  async open(
    namespacePath: string,
    egressPath: string | undefined,
  ): Promise<OpenProxy & { readonly id: number }> {
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = await this.#order({ kind: "open", id, namespacePath, egressPath });
    if (answer.kind !== "opened") {
      throw new UnavailableError(
        `Cannot open a proxy for a step: ${answer.kind === "failed" ? answer.why : answer.kind}`,
      );
    }
    return { id, ...answer.proxy };
  }

  /** Closes a proxy, once. @returns what it was asked for; nothing if the thread has died with it. */
  async close(id: number): Promise<RequestSummary> {
    const answer = this.#thread === undefined ? undefined : await this.#order({ kind: "close", id });
    return answer?.kind === "closed" ? answer.summary : { requests: [], omitted: 0 };
  }

  async #order(order: ProxyOrder): Promise<ProxyAnswer> {
    this.#thread ??= this.#start();
    const waiting = Promise.withResolvers<ProxyAnswer>();
    this.#waiting.set(order.id, waiting);
    this.#thread.postMessage(order);
    try {
      return await waiting.promise;
    } finally {
      this.#waiting.delete(order.id);
    }
  }

  #start(): Worker {
    const thread = new Worker(new URL("./proxy-thread.ts", import.meta.url), { name: "proxies" });
    thread.on("message", (answer: ProxyAnswer) => this.#waiting.get(answer.id)?.resolve(answer));
    let why = "their thread has ended";
    thread.on("error", (error) => {
      why = `their thread has failed: ${error instanceof Error ? error.message : String(error)}`;
    });
    thread.once("exit", () => {
      this.#thread = undefined;
      for (const [id, { resolve }] of this.#waiting) {
        resolve({ kind: "failed", id, why });
      }
    });
    return thread;
  }
}
