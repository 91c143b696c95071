import { InvalidArgumentError, NotFoundError, ServiceError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { messageOf } from "../solver/failure.ts";
import type { ProgressEvent } from "../solver/progress.ts";
import type { TraceRecording } from "../traces/recorder.ts";
import { BuildBlobs, type BuildBlobsParts, blobsOf } from "./build-blobs.ts";
import type { BuildBlob, BuildDescription, BuildRecord, HistoryEvent } from "./build-record.ts";
import type { BuildTable } from "./build-table.ts";
import { exportedBlob } from "./exported-blob.ts";
import { historyFilter } from "./history-filter.ts";
import { PendingTraces } from "./pending-traces.ts";
import { countSteps, countWarnings } from "./step-counts.ts";
import { Subscription } from "./subscription.ts";

/** Old builds are looked for so often. */
const forgetIntervalMs = 120_000;

export interface BuildHistoryParts extends BuildBlobsParts {
  readonly table: BuildTable;
  /** An unpinned build is forgotten when it ended longer ago than this and so many have ended since. */
  readonly maxAgeMs: number;
  readonly maxEntries: number;
  readonly log: Logger;
}

/** How a build has ended. */
export interface BuildOutcome {
  /** Of a build that ended well. */
  readonly response: Readonly<Record<string, string>>;
  /** Undefined if it ended well. */
  readonly error: unknown;
  readonly events: readonly ProgressEvent[];
  /** What was done for it, which the history is the end of; undefined if that is not to be kept. */
  readonly trace: TraceRecording | undefined;
}

export interface ListenOptions {
  /** Leaves out builds that have ended before. */
  readonly activeOnly: boolean;
  /** The only build that is of interest; empty for all. */
  readonly ref: string;
  /** Ends after what is known already. */
  readonly earlyExit: boolean;
  readonly filters: readonly string[];
  /** Of what is known already at most so many, the newest; 0 for all. */
  readonly limit: number;
}

/** The builds that are under way, and what is remembered of those that have ended. */
export class BuildHistory implements AsyncDisposable {
  readonly #parts: BuildHistoryParts;
  readonly #blobs: BuildBlobs;
  readonly #traces = new PendingTraces((ref, recording) => this.#saveTrace(ref, recording));
  readonly #active = new Map<string, BuildRecord>();
  readonly #subscriptions = new Set<Subscription>();
  /** How many listen to a build; it is not deleted as long as they do. */
  readonly #listeners = new Map<string, number>();
  readonly #doomed = new Set<string>();
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(parts: BuildHistoryParts) {
    this.#parts = parts;
    this.#blobs = new BuildBlobs(parts);
    for (const record of parts.table.all()) {
      this.#blobs.hold(blobsOf(record));
    }
    this.#timer = setInterval(() => void this.forgetOld(), forgetIntervalMs).unref();
  }

  /** Resolves when all is on disk. Listeners are told nothing more. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#traces[Symbol.asyncDispose]();
    this.#ending.abort();
    for (const subscription of this.#subscriptions) {
      subscription.end();
    }
  }

  /** A build is under way from now on. */
  begin(description: BuildDescription): void {
    const record: BuildRecord = {
      ...description,
      createdAtMs: Date.now(),
      completedAtMs: undefined,
      error: undefined,
      externalError: undefined,
      response: {},
      logs: undefined,
      result: undefined,
      trace: undefined,
      steps: { total: 0, cached: 0, completed: 0 },
      warnings: 0,
      pinned: false,
      generation: 0,
    };
    this.#active.set(record.ref, record);
    this.#tell({ kind: "started", record });
  }

  /** A build has ended. Resolves when that is safe on disk; what goes wrong there is logged, and no failure of the build. */
  async complete(ref: string, { response, error, events, trace }: BuildOutcome): Promise<void> {
    using undo = new DisposableStack();
    undo.use(trace);
    const begun = this.#active.get(ref);
    if (begun === undefined) {
      return;
    }
    const { table, content, log } = this.#parts;
    const { signal } = this.#ending;
    try {
      // A client may use a name again.
      await this.#traces.finish(ref);
      const logs = await this.#blobs.storeLogs(events, signal);
      const externalError = error === undefined ? undefined : await this.#blobs.storeError(error, signal);
      const result = await exportedBlob(response, content);
      const record: BuildRecord = {
        ...begun,
        completedAtMs: Date.now(),
        error: error === undefined ? undefined : { reason: reasonOf(error), message: messageOf(error) },
        externalError,
        response,
        logs,
        result,
        steps: countSteps(events),
        warnings: countWarnings(events),
        generation: 1,
      };
      if (result !== undefined) {
        this.#blobs.hold([result]);
      }
      const former = table.get(ref);
      table.put(record);
      this.#active.delete(ref);
      // In the same turn as it is taken for known: whoever comes to listen in between would hear of it twice.
      this.#tell({ kind: "complete", record });
      if (trace !== undefined) {
        this.#traces.add(ref, trace);
        undo.move();
      }
      if (former !== undefined) {
        await this.#blobs.release(blobsOf(former));
      }
    } catch (failure) {
      log.error({ ref, error: failure }, "build cannot be remembered");
    } finally {
      this.#active.delete(ref);
    }
  }

  /** The progress of a build that has ended; undefined if none of that name is remembered. */
  logsOf(ref: string): BuildBlob | undefined {
    return this.#doomed.has(ref) || this.#active.has(ref) ? undefined : this.#parts.table.get(ref)?.logs;
  }

  /**
   * Tells of builds: of those that have ended, of those that are under way, and then of what happens from now on.
   *
   * A build that is listened to by its name is not deleted meanwhile.
   *
   * @throws {NotFoundError} if the build is to be deleted.
   * @throws {InvalidArgumentError} if a filter or the limit makes no sense.
   */
  async *listen(options: ListenOptions, signal: AbortSignal): AsyncGenerator<HistoryEvent, void> {
    const { ref, activeOnly, earlyExit } = options;
    const isWanted = this.#isWanted(options);
    if (ref !== "" && this.#doomed.has(ref)) {
      throw new NotFoundError(`ref ${ref} is deleted`);
    }
    using subscription = new Subscription(isWanted);
    this.#subscriptions.add(subscription);
    this.#listeners.set(ref, (this.#listeners.get(ref) ?? 0) + 1);
    try {
      const ended = activeOnly ? [] : this.#parts.table.all();
      const known: HistoryEvent[] = [
        ...ended
          .filter((record) => !this.#doomed.has(record.ref) && !this.#active.has(record.ref))
          .map((record) => ({ kind: "complete", record }) as const),
        ...this.#active.values().map((record) => ({ kind: "started", record }) as const),
      ];
      yield* latest(known.filter(isWanted), options.limit);
      if (!earlyExit) {
        yield* subscription.events(signal);
      }
    } finally {
      this.#subscriptions.delete(subscription);
      await this.#leave(ref);
    }
  }

  /**
   * Deletes a record, when nobody listens to it any more.
   *
   * @throws {NotFoundError} if none of that name is remembered.
   */
  async delete(ref: string): Promise<void> {
    this.#require(ref);
    await this.#delete(ref);
  }

  /** Spares a record from being forgotten, or does not any more. @throws {NotFoundError} if there is none. */
  pin(ref: string, pinned: boolean): void {
    this.#change(this.#require(ref), { pinned });
  }

  /**
   * Makes sure that everything of a build that has ended is written, without waiting for what clients may add to its trace.
   *
   * @throws {NotFoundError} if none of that name is remembered.
   */
  async finalize(ref: string): Promise<void> {
    if (!this.#active.has(ref)) {
      this.#require(ref);
    }
    await this.#traces.finish(ref);
  }

  /** Forgets what is both too old and too much. Happens by itself every two minutes. */
  async forgetOld(): Promise<void> {
    const { table, maxAgeMs, maxEntries, log } = this.#parts;
    const cutOffMs = Date.now() - maxAgeMs;
    try {
      const unpinned = table.all().filter(({ pinned }) => !pinned);
      for (const { ref, completedAtMs = 0 } of unpinned.slice(0, Math.max(0, unpinned.length - maxEntries))) {
        if (completedAtMs < cutOffMs) {
          await this.#delete(ref);
          log.debug({ ref }, "old build forgotten");
        }
      }
    } catch (error) {
      log.error({ error }, "old builds cannot be forgotten");
    }
  }

  /** Keeps the trace of a build that has ended. What goes wrong there is logged. */
  async #saveTrace(ref: string, recording: TraceRecording): Promise<void> {
    using _recording = recording;
    const { log } = this.#parts;
    const { dropped } = recording;
    if (dropped > 0) {
      log.warn({ ref, dropped }, "trace of a build has too many spans, not all of them are kept");
    }
    const text = recording.text();
    if (text === "") {
      return;
    }
    try {
      const trace = await this.#blobs.storeTrace(text, this.#ending.signal);
      const record = this.#find(ref);
      if (record === undefined) {
        // It has been deleted meanwhile.
        await this.#blobs.release([trace]);
      } else {
        this.#change(record, { trace });
      }
    } catch (error) {
      log.error({ ref, error }, "trace of a build cannot be kept");
    }
  }

  #change(record: BuildRecord, change: Partial<BuildRecord>): void {
    const changed = { ...record, ...change, generation: record.generation + 1 };
    this.#parts.table.put(changed);
    this.#tell({ kind: "complete", record: changed });
  }

  #find(ref: string): BuildRecord | undefined {
    return this.#doomed.has(ref) ? undefined : this.#parts.table.get(ref);
  }

  #require(ref: string): BuildRecord {
    const record = this.#find(ref);
    if (record === undefined) {
      throw new NotFoundError(`Cannot change the record of build ${ref}: not found`);
    }
    return record;
  }

  #isWanted({ ref, filters, limit }: ListenOptions): (event: HistoryEvent) => boolean {
    if (limit < 0) {
      throw new InvalidArgumentError(`invalid limit ${limit}, want 0 or more`);
    }
    const matches = historyFilter(filters, Date.now());
    return (event) =>
      event.kind === "deleted"
        ? ref === "" || event.ref === ref
        : (ref === "" || event.record.ref === ref) && matches(event.record);
  }

  #tell(event: HistoryEvent): void {
    for (const subscription of this.#subscriptions) {
      subscription.push(event);
    }
  }

  async #leave(ref: string): Promise<void> {
    const left = (this.#listeners.get(ref) ?? 1) - 1;
    if (left > 0) {
      this.#listeners.set(ref, left);
      return;
    }
    this.#listeners.delete(ref);
    if (this.#doomed.delete(ref)) {
      await this.#delete(ref);
    }
  }

  async #delete(ref: string): Promise<void> {
    const { table } = this.#parts;
    if (this.#listeners.has(ref)) {
      this.#doomed.add(ref);
      table.doom(ref);
      return;
    }
    const record = table.get(ref);
    if (record === undefined) {
      return;
    }
    table.delete(ref);
    this.#tell({ kind: "deleted", ref });
    await this.#blobs.release(blobsOf(record));
  }
}

/** At most `limit` events, the newest builds first; all of them as they are without a limit. */
function latest(events: readonly HistoryEvent[], limit: number): readonly HistoryEvent[] {
  if (limit === 0) {
    return events;
  }
  const createdAt = (event: HistoryEvent) => (event.kind === "deleted" ? 0 : event.record.createdAtMs);
  // Of two that began in the same millisecond the one that is told of later is the newer.
  return events
    .toReversed()
    .toSorted((a, b) => createdAt(b) - createdAt(a))
    .slice(0, limit);
}

function reasonOf(error: unknown) {
  if (error instanceof ServiceError) {
    return error.reason;
  }
  return error instanceof Error && error.name === "AbortError" ? "CANCELED" : "INTERNAL";
}
