import { setTimeout as delay } from "node:timers/promises";
import { AlreadyExistsError, NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import type { LabelChange, Labels } from "./labels.ts";
import type { Info, Kind, Snapshotter, Usage } from "./snapshotter.ts";
import { walkPages } from "./walk-pages.ts";

/** How often a call is made again that was lost, and the first wait before it is; each further one is twice as long. */
const maxRetries = 6;
const firstDelayMs = 50;

/** A call is made again for so long: one that cannot reach the process at all has waited for it already. */
const defaultPatienceMs = 60_000;

/** What a call has come to. */
type Attempt = "first" | "again";

/**
 * A snapshotter in another process whose restart nobody notices: a call that is lost with the process is made again.
 *
 * What was lost may have been done, or not. So the second time it is no failure for prepare and view that the key is there
 * already, for commit that the key has become the name, and for remove that the key is gone. It follows that keys have to
 * be their caller's own, made for one call alone.
 *
 * @param snapshotter its calls have to wait while it cannot be reached; they end with Unavailable when they are lost.
 */
export function patient(snapshotter: Snapshotter, patienceMs: number = defaultPatienceMs): Snapshotter {
  return new PatientSnapshotter(snapshotter, patienceMs);
}

class PatientSnapshotter implements Snapshotter {
  readonly #inner: Snapshotter;
  readonly #patienceMs: number;

  constructor(inner: Snapshotter, patienceMs: number) {
    this.#inner = inner;
    this.#patienceMs = patienceMs;
  }

  stat(key: string, signal?: AbortSignal): Promise<Info> {
    return this.#retried(() => this.#inner.stat(key, signal), signal);
  }

  update(key: string, change: LabelChange, signal?: AbortSignal): Promise<Info> {
    return this.#retried(() => this.#inner.update(key, change, signal), signal);
  }

  usage(key: string, signal?: AbortSignal): Promise<Usage> {
    return this.#retried(() => this.#inner.usage(key, signal), signal);
  }

  mounts(key: string, signal?: AbortSignal): Promise<Mount[]> {
    return this.#retried(() => this.#inner.mounts(key, signal), signal);
  }

  prepare(key: string, parent: string | undefined, labels: Labels, signal?: AbortSignal): Promise<Mount[]> {
    return this.#made(key, () => this.#inner.prepare(key, parent, labels, signal), signal);
  }

  view(key: string, parent: string | undefined, labels: Labels, signal?: AbortSignal): Promise<Mount[]> {
    return this.#made(key, () => this.#inner.view(key, parent, labels, signal), signal);
  }

  commit(name: string, key: string, labels: Labels, parent?: string, signal?: AbortSignal): Promise<void> {
    return this.#retried(async (attempt) => {
      try {
        await this.#inner.commit(name, key, labels, parent, signal);
      } catch (error) {
        // Servers differ in which of the two they look for first.
        const mayBeDone = error instanceof NotFoundError || error instanceof AlreadyExistsError;
        if (attempt === "again" && mayBeDone && (await this.#isDone(name, key, signal))) {
          return;
        }
        throw error;
      }
    }, signal);
  }

  remove(key: string, signal?: AbortSignal): Promise<void> {
    return this.#retried(async (attempt) => {
      try {
        await this.#inner.remove(key, signal);
      } catch (error) {
        if (attempt === "again" && error instanceof NotFoundError) {
          return;
        }
        throw error;
      }
    }, signal);
  }

  walk(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<Info> {
    return walkPages(this.pages(filters, signal));
  }

  async *pages(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<readonly Info[]> {
    const seen = new Set<string>();
    const giveUpAt = performance.now() + this.#patienceMs;
    for (let retries = 0; ; retries += 1) {
      try {
        for await (const page of this.#inner.pages(filters, signal)) {
          const unseen = retries === 0 ? page : page.filter(({ name }) => !seen.has(name));
          for (const { name } of unseen) {
            seen.add(name);
          }
          if (unseen.length > 0) {
            yield unseen;
          }
        }
        return;
      } catch (error) {
        await beforeRetry(error, { retries, giveUpAt }, signal);
      }
    }
  }

  cleanup(signal?: AbortSignal): Promise<void> {
    return this.#retried(() => this.#inner.cleanup(signal), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }

  async #retried<T>(call: (attempt: Attempt) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const giveUpAt = performance.now() + this.#patienceMs;
    for (let retries = 0; ; retries += 1) {
      try {
        return await call(retries === 0 ? "first" : "again");
      } catch (error) {
        await beforeRetry(error, { retries, giveUpAt }, signal);
      }
    }
  }

  /** Has `make` make the snapshot `key`, or finds that it has been made. */
  #made(key: string, make: () => Promise<Mount[]>, signal: AbortSignal | undefined): Promise<Mount[]> {
    return this.#retried(async (attempt) => {
      try {
        return await make();
      } catch (error) {
        if (attempt === "first" || !(error instanceof AlreadyExistsError)) {
          throw error;
        }
        // It may also be that the layer which the labels name is there, and no such key: then that is the answer.
        return await this.#inner.mounts(key, signal).catch((thrown: unknown) => {
          throw thrown instanceof NotFoundError ? error : thrown;
        });
      }
    }, signal);
  }

  /** Whether the snapshot `key` is now the committed snapshot `name`. */
  async #isDone(name: string, key: string, signal: AbortSignal | undefined): Promise<boolean> {
    const [made, left] = [await this.#kindOf(name, signal), await this.#kindOf(key, signal)];
    return made === "committed" && left === undefined;
  }

  /** Undefined if there is no such snapshot. */
  async #kindOf(key: string, signal: AbortSignal | undefined): Promise<Kind | undefined> {
    try {
      return (await this.#inner.stat(key, signal)).kind;
    } catch (error) {
      if (error instanceof NotFoundError) {
        return undefined;
      }
      throw error;
    }
  }
}

/** Waits before a call is made again. @throws `error` if it is none that a restart explains, or has come too often. */
async function beforeRetry(
  error: unknown,
  { retries, giveUpAt }: { readonly retries: number; readonly giveUpAt: number },
  signal: AbortSignal | undefined,
): Promise<void> {
  const isTooOften = retries === maxRetries || performance.now() >= giveUpAt;
  if (!(error instanceof UnavailableError) || isTooOften) {
    throw error;
  }
  try {
    await delay(firstDelayMs * 2 ** retries, undefined, signal && { signal });
  } catch {
    signal?.throwIfAborted();
  }
}
