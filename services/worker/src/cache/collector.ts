import type { Logger } from "pino";
import type { ContentStore } from "../content/store.ts";
import type { GcPolicy } from "./gc-policy.ts";
import type { Pruner } from "./prune.ts";
import type { CacheRecords } from "./records.ts";
import { Throttle } from "./throttle.ts";
import type { MeasuredRecord } from "./usage.ts";

/** After a start and after each build, so long (BuildKit, control/control.go). */
const delayMs = 1000;

/** A run comes no sooner after the one before. */
const intervalMs = 60_000;

/** A blob that no record needs may be about to be, by a build that has only looked at the image so far. */
const blobGraceMs = 3_600_000;

export interface CollectorParts {
  readonly pruner: Pruner;
  readonly records: CacheRecords;
  readonly content: ContentStore;
  readonly policies: readonly GcPolicy[];
  readonly log: Logger;
}

/** Keeps the cache within its policies, without being asked to. Disposing waits for a run to stop. */
export class Collector implements AsyncDisposable {
  readonly #parts: CollectorParts;
  readonly #throttle: Throttle;
  readonly #ending = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  constructor(parts: CollectorParts) {
    this.#parts = parts;
    this.#throttle = new Throttle(intervalMs, () => {
      const run = this.#run();
      this.#running = run;
      return run;
    });
  }

  get policies(): readonly GcPolicy[] {
    return this.#parts.policies;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#throttle[Symbol.dispose]();
    this.#ending.abort();
    await this.#running;
  }

  /** Something may be to be removed: the worker has started, or a build has ended. */
  request(): void {
    this.#throttle.request(delayMs);
  }

  /** Removes what `policy` covers, for a client that asks for it, and gives each record as it goes. */
  async *prune(
    policy: GcPolicy,
    isIdle: () => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<MeasuredRecord, void> {
    yield* this.#parts.pruner.apply(policy, { by: "prune" }, signal);
    await this.#sweepContent(isIdle() ? 0 : blobGraceMs);
  }

  /** @returns whether there was anything that could have been removed. */
  async #run(): Promise<boolean> {
    const { pruner, policies, records, log } = this.#parts;
    const hasRecords = !records.isEmpty;
    log.debug({ rules: policies.length, hasRecords }, "looking for garbage");
    try {
      for (const [index, policy] of policies.entries()) {
        let count = 0;
        let sizeBytes = 0;
        for await (const record of pruner.apply(policy, { by: "gc", rule: index + 1 }, this.#ending.signal)) {
          count += 1;
          sizeBytes += record.sizeBytes;
        }
        if (count > 0) {
          log.info({ rule: index + 1, count, sizeBytes }, "garbage collected");
        }
      }
      if (policies.length > 0) {
        await this.#sweepContent(blobGraceMs);
      }
    } catch (error) {
      if (!this.#ending.signal.aborted) {
        log.error({ error }, "garbage collection failed");
      }
    }
    return hasRecords;
  }

  /** Removes blobs that nothing needs and that have been there for so long. */
  async #sweepContent(graceMs: number): Promise<void> {
    const { content, records, log } = this.#parts;
    const cutOffMs = Date.now() - graceMs;
    for await (const { digest, sizeBytes, createdAt } of content.list()) {
      if (!records.needsBlob(digest) && createdAt.getTime() <= cutOffMs) {
        await content.delete(digest);
        log.debug({ digest, sizeBytes }, "blob removed that nothing needed");
      }
    }
  }
}
