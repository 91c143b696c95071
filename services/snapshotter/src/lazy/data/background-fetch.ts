import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import type { LayerFetcher } from "./layer-fetcher.ts";
import type { Member } from "./members.ts";
import type { Quota } from "./quota.ts";
import type { Slots } from "./slots.ts";

/** How far the fetching of a layer nobody waits for has come. */
export type BackgroundState = "off" | "running" | "waiting" | "full" | "done";

/** What one request fetches ahead at most: a read that comes meanwhile may have to wait for what is before it. */
const maxRunBytes = 2 * 1024 * 1024;

/** After a failure it waits, from the first to the last twice as long each time. */
const [firstPauseMs, lastPauseMs] = [1000, 60_000];

export interface BackgroundOptions {
  readonly fetcher: LayerFetcher;
  readonly quota: Quota;
  readonly slots: Slots;
  readonly signal: AbortSignal;
  readonly sendsWhole: () => boolean;
  /** Told when it begins to wait for room. */
  readonly onFull: () => void;
  readonly delay?: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/**
 * Fetches the whole of a layer in the order of its blob, after checking what an earlier process has left of it. It goes on
 * after failures, and waits where it would push out what somebody has read, until a layer is gone.
 */
export class BackgroundFetch {
  state: BackgroundState = "off";
  readonly #options: BackgroundOptions;

  constructor(options: BackgroundOptions) {
    this.#options = options;
  }

  /** Fetches what is before byte `end` of the blob. @returns whether all of it is there. */
  async fetchBefore(end: number): Promise<boolean> {
    const { fetcher } = this.#options;
    const members = fetcher.members.filter(({ offset }) => offset < end);
    for (let from = 0; from < members.length; ) {
      const run = await this.#nextRun(members, from);
      from = run.next;
      await fetcher.fetchAhead(run.members, "demand");
    }
    return members.every((member) => fetcher.has(member));
  }

  /** Goes on until all of the layer is there. @returns false if it was aborted before. */
  async run(): Promise<boolean> {
    const {
      fetcher,
      signal,
      quota,
      onFull,
      delay = (ms, limit) => sleep(ms, undefined, { signal: limit, ref: false }),
    } = this.#options;
    this.state = "running";
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, lastPauseMs)) {
      const [before, frees] = [fetcher.file.verifiedChunks, quota.frees];
      const end = await this.#fetchOnce();
      if (end === "done" || signal.aborted) {
        this.state = end === "done" ? end : "off";
        return end === "done";
      }
      if (end === "full") {
        this.state = "full";
        onFull();
        await quota.untilFreed(frees, signal);
        this.state = "running";
        continue;
      }
      this.state = "waiting";
      pauseMs = fetcher.file.verifiedChunks > before ? firstPauseMs : pauseMs;
      await delay(pauseMs, signal).catch(() => undefined);
      this.state = "running";
    }
  }

  /** Goes through the blob once. */
  async #fetchOnce(): Promise<"done" | "full" | "failed"> {
    const { fetcher, quota, slots, signal } = this.#options;
    for (let from = 0; from < fetcher.members.length && !signal.aborted; ) {
      const run = await this.#nextRun(fetcher.members, from);
      from = run.next;
      const bytes = run.members
        .flatMap(({ chunks }) => chunks)
        .reduce((sum, chunk) => sum + fetcher.file.roomOf(chunk), 0);
      if (!quota.hasRoom(bytes)) {
        return "full";
      }
      await slots.quiet(signal);
      await fetcher.fetchAhead(run.members, "background");
      if (run.members.some((member) => !fetcher.has(member))) {
        return "failed";
      }
    }
    return fetcher.file.isComplete ? "done" : "failed";
  }

  /** The next members that have to be fetched, neighbours, and where to go on after them. */
  async #nextRun(members: readonly Member[], from: number): Promise<{ members: Member[]; next: number }> {
    const { fetcher, signal } = this.#options;
    const run: Member[] = [];
    let [next, bytes] = [from, 0];
    const maxBytes = this.#options.sendsWhole() ? Number.POSITIVE_INFINITY : maxRunBytes;
    for (; next < members.length && !signal.aborted; next += 1) {
      const member = members[next];
      if (member === undefined || (await this.#isThere(member)) || fetcher.isFetching(member)) {
        if (run.length > 0) {
          break;
        }
        continue;
      }
      bytes += member.compressedBytes;
      if (run.length > 0 && bytes > maxBytes) {
        break;
      }
      run.push(member);
    }
    return { members: run, next };
  }

  /** Checks what is on the disk, or elsewhere, chunk by chunk: reads must not wait for all of it. */
  async #isThere({ chunks }: Member): Promise<boolean> {
    const { fetcher } = this.#options;
    let areAll = true;
    for (const chunk of chunks) {
      if (!fetcher.file.isVerified(chunk)) {
        areAll = fetcher.isThere(chunk) && areAll;
        await turn();
      }
    }
    return areAll;
  }
}
