import { DataLossError } from "@oci-worker/errdefs";
import type { BlobReader, WantedPart } from "../source/blob-reader.ts";
import type { AheadCache } from "./ahead-cache.ts";
import type { LayerFile } from "./layer-file.ts";
import { MemberWriter } from "./member-writer.ts";
import { endOf, type Member, membersOf, runAround } from "./members.ts";
import { ReadAhead } from "./read-ahead.ts";
import type { Slots, Urgency } from "./slots.ts";

/** What a fetcher asks of whoever knows all layers. */
export interface OtherLayers {
  /** Puts `chunk` into `file` if another layer has it. @returns whether it did. */
  copy(file: LayerFile, chunk: number): boolean;
  /** Settles when another layer has stopped fetching what `chunk` is; undefined if none does. */
  fetching(file: LayerFile, chunk: number): Promise<unknown> | undefined;
  /** Notes that what `chunk` is is being fetched until `done` settles. */
  begin(file: LayerFile, chunk: number, done: Promise<unknown>): void;
  /** Makes room for what is about to be written. */
  makeRoom(bytes: number): void;
  /** `chunk` is there now. */
  added(file: LayerFile, chunk: number): void;
}

/** A member that is wanted, by however many, or that comes along with one that is. */
interface Wish {
  readonly member: Member;
  readonly settled: PromiseWithResolvers<void>;
  isWanted: boolean;
}

export interface LayerFetcherOptions {
  readonly file: LayerFile;
  readonly reader: BlobReader;
  readonly slots: Slots;
  readonly others: OtherLayers;
  readonly ahead: AheadCache;
  readonly signal: AbortSignal;
  /** Told of what goes wrong here and not at a host: that is the reader's. */
  readonly onFailure: (error: Error) => void;
}

/**
 * Brings the chunks of one layer into its file: from what is there already, checked, from another layer, or out of its
 * blob. Each member of the blob is fetched once, however many want it, and neighbours in one request.
 */
export class LayerFetcher {
  readonly members: readonly Member[];
  readonly file: LayerFile;
  /** Bytes that came from registries, compressed. */
  fetchedBytes = 0;
  readonly #memberOf: Uint32Array;
  readonly #options: LayerFetcherOptions;
  readonly #wishes = new Map<number, Wish>();
  readonly #readAhead = new ReadAhead();
  readonly #writer: MemberWriter;
  /** Members that are wanted and in no request yet. */
  readonly #queued: Record<Urgency, Map<number, Wish>> = { demand: new Map(), background: new Map() };

  constructor(options: LayerFetcherOptions) {
    this.#options = options;
    this.file = options.file;
    this.#writer = new MemberWriter(options.file, options.others);
    this.members = membersOf(options.file.content.chunks);
    this.#memberOf = new Uint32Array(options.file.content.chunks.length);
    for (const { index, chunks } of this.members) {
      for (const chunk of chunks) {
        this.#memberOf[chunk] = index;
      }
    }
  }

  /** Whether all chunks of `member` are there. */
  has(member: Member): boolean {
    return member.chunks.every((chunk) => this.file.isVerified(chunk));
  }

  /** Whether `member` is being fetched already. */
  isFetching(member: Member): boolean {
    return this.#wishes.has(member.index);
  }

  /**
   * Waits until `chunk` is in the file, checked.
   *
   * @throws why it cannot be had: {DataLossError} if it is wrong everywhere, what the registry or the disk said.
   */
  async ensure(chunk: number, urgency: Urgency): Promise<void> {
    if (this.isThere(chunk)) {
      return;
    }
    const member = this.members[this.#memberOf[chunk] ?? 0];
    if (member === undefined) {
      throw new Error("every chunk is in a member");
    }
    const elsewhere = this.isFetching(member) ? undefined : this.#options.others.fetching(this.file, chunk);
    if (elsewhere !== undefined) {
      await elsewhere;
      if (this.isThere(chunk)) {
        return;
      }
    }
    const { settled } = this.#wish(member, urgency);
    await settled.promise.catch((error: Error) => {
      // Others of its member may be wrong.
      if (!this.file.isVerified(chunk)) {
        throw error;
      }
    });
  }

  /** Whether `chunk` can be had without asking anybody; then it is in the file afterwards, checked. */
  isThere(chunk: number): boolean {
    const { file } = this;
    if (file.isVerified(chunk)) {
      return true;
    }
    const { others, onFailure } = this.#options;
    if (file.isPresent(chunk)) {
      if (file.verify(chunk)) {
        others.added(file, chunk);
        return true;
      }
      onFailure(
        new DataLossError(`Cannot use chunk ${chunk} from disk: it is damaged there, it is fetched again`),
      );
    }
    return this.#usesAhead(chunk) || others.copy(file, chunk);
  }

  /** Puts `chunk` into the file if its member has come along with another one. @returns whether it did. */
  #usesAhead(chunk: number): boolean {
    const member = this.members[this.#memberOf[chunk] ?? 0];
    const compressed = member && this.#options.ahead.take(this.file.shared.number, member.index);
    if (member === undefined || compressed === undefined) {
      return false;
    }
    try {
      this.#writer.put(member, compressed);
    } catch (error) {
      // Wrong bytes: it is fetched like any other, and perhaps elsewhere.
      if (!(error instanceof DataLossError)) {
        throw error;
      }
      this.#options.onFailure(error);
    }
    return this.file.isVerified(chunk);
  }

  /** Takes what is wanted out of `bytes` of the blob, from `offset` on, that were read for another reason. */
  offer(offset: number, bytes: Buffer): void {
    this.fetchedBytes += bytes.length;
    for (const member of this.members) {
      const at = member.offset - offset;
      if (at >= 0 && at + member.compressedBytes <= bytes.length) {
        try {
          this.#writer.put(member, bytes.subarray(at, at + member.compressedBytes));
        } catch (error) {
          // It is fetched when somebody wants it, and may be better then.
          this.#options.onFailure(error as Error);
        }
      }
    }
  }

  /** Has `members`, neighbours, fetched in one request; settles when that is over, whatever came of it. */
  async fetchAhead(members: readonly Member[], urgency: Urgency): Promise<void> {
    await Promise.allSettled(
      members
        .flatMap(({ chunks }) => chunks.filter((chunk) => !this.file.isVerified(chunk)))
        .map((chunk) => this.ensure(chunk, urgency)),
    );
  }

  /** The wish for `member`. One that waits as nobody's is made urgent when somebody comes. */
  #wish(member: Member, urgency: Urgency): Wish {
    const existing = this.#wishes.get(member.index);
    const wish = existing ?? { member, settled: Promise.withResolvers(), isWanted: true };
    wish.isWanted = true;
    if (existing === undefined) {
      this.#begin(wish);
    } else if (urgency === "background" || !this.#queued.background.delete(member.index)) {
      return existing;
    }
    this.#queued[urgency].set(member.index, wish);
    // Whatever else is wanted in this moment comes along.
    setImmediate(() => {
      this.#options.slots
        .run(urgency, () => this.#fetchNext(urgency))
        .catch((error: unknown) => this.#settle(wish, error));
    });
    return wish;
  }

  #begin(wish: Wish): void {
    const { member, settled } = wish;
    this.#wishes.set(member.index, wish);
    // Those who wait see it.
    const done = settled.promise.catch(() => undefined);
    for (const chunk of member.chunks) {
      if (!this.file.isVerified(chunk)) {
        this.#options.others.begin(this.file, chunk, done);
      }
    }
  }

  #comesAlong(member: Member): Wish {
    const wish = { member, settled: Promise.withResolvers<void>(), isWanted: false };
    this.#wishes.set(member.index, wish);
    // Whoever comes to wait sees it.
    wish.settled.promise.catch(() => undefined);
    return wish;
  }

  #settle({ member, settled }: Wish, error?: unknown): void {
    this.#wishes.delete(member.index);
    if (error === undefined) {
      settled.resolve();
    } else {
      settled.reject(error);
    }
  }

  async #fetchNext(urgency: Urgency): Promise<void> {
    const queued = this.#queued[urgency];
    const first = queued.values().next().value;
    if (first === undefined) {
      return;
    }
    const { reader, signal } = this.#options;
    const run = this.#runOf(queued, first, urgency);
    const wishes = run.map((member) => queued.get(member.index) ?? this.#comesAlong(member));
    for (const { member } of wishes) {
      queued.delete(member.index);
    }
    await reader.fetch(
      wishes.map((wish) => this.#part(wish)),
      signal,
    );
  }

  /** What the next request fetches: `first`, neighbours that are wanted, and what is around it if somebody waits. */
  #runOf(queued: ReadonlyMap<number, Wish>, first: Wish, urgency: Urgency): readonly Member[] {
    const wanted = [...queued.values()].map(({ member }) => member);
    const { sendsWhole } = this.#options.reader;
    const around = urgency === "demand" && !sendsWhole ? this.#around(first.member) : [];
    const all = [...wanted, ...around].sort((one, other) => one.index - other.index);
    const run = runAround(all, first.member, sendsWhole ? Number.POSITIVE_INFINITY : undefined);
    const [begin, last] = [run[0], run.at(-1)];
    if (urgency === "demand" && begin !== undefined && last !== undefined) {
      this.#readAhead.note(begin.offset, endOf(last));
    }
    return run;
  }

  /** Neighbours of `member` that nobody has wanted, and that are nowhere yet. */
  #around(member: Member): Member[] {
    const half = this.#readAhead.around(member.offset) / 2;
    const [begin, end] = [member.offset - half, endOf(member) + half];
    const around: Member[] = [];
    const add = (neighbour: Member) => {
      if (!this.isFetching(neighbour) && !this.#has(neighbour)) {
        around.push(neighbour);
      }
    };
    for (let at = member.index - 1, next = this.members[at]; next !== undefined && next.offset >= begin; ) {
      add(next);
      at -= 1;
      next = this.members[at];
    }
    for (let at = member.index + 1, next = this.members[at]; next !== undefined && endOf(next) <= end; ) {
      add(next);
      at += 1;
      next = this.members[at];
    }
    return around;
  }

  #has(member: Member): boolean {
    const { file } = this;
    return (
      member.chunks.every((chunk) => file.isVerified(chunk) || file.isPresent(chunk)) ||
      this.#options.ahead.has(this.file.shared.number, member.index)
    );
  }

  #part(wish: Wish): WantedPart {
    const { member } = wish;
    return {
      offset: member.offset,
      sizeBytes: member.compressedBytes,
      isExtra: () => !wish.isWanted,
      take: async (bytes) => {
        this.fetchedBytes += bytes.length;
        try {
          await this.#put(wish, bytes);
        } catch (error) {
          if (!(error instanceof DataLossError)) {
            this.#options.onFailure(error as Error);
          }
          throw error;
        }
        this.#settle(wish);
      },
      fail: (error) => this.#settle(wish, error),
    };
  }

  async #put({ member, isWanted }: Wish, compressed: Buffer): Promise<void> {
    if (isWanted) {
      await this.#writer.putSoon(member, compressed);
    } else {
      this.#options.ahead.put(this.file.shared.number, member.index, compressed);
    }
  }
}
