import type { PlacedChunk } from "../plan/placement.ts";

/** What is decompressed at once: a gzip member or zstd frame of a layer's blob, and the chunks that are in it. */
export interface Member {
  /** Of those of the layer, in the order of the blob. */
  readonly index: number;
  /** Where in the blob. */
  readonly offset: number;
  readonly compressedBytes: number;
  /** Numbers of its chunks. */
  readonly chunks: readonly number[];
}

/** The members of a layer in the order of its blob. */
export function membersOf(chunks: readonly PlacedChunk[]): readonly Member[] {
  const inBlob = chunks
    .map(({ chunk }, index) => ({ chunk, index }))
    .sort((one, other) => one.chunk.offset - other.chunk.offset);
  const members: { index: number; offset: number; compressedBytes: number; chunks: number[] }[] = [];
  for (const { chunk, index } of inBlob) {
    const { offset, compressedBytes } = chunk;
    const last = members.at(-1);
    if (last !== undefined && last.offset === offset) {
      last.chunks.push(index);
      last.compressedBytes = Math.max(last.compressedBytes, compressedBytes);
    } else {
      members.push({ index: members.length, offset, compressedBytes, chunks: [index] });
    }
  }
  return members;
}

/** What one request fetches at most, and how much that nobody wants may be between two members of it. */
const [maxRunBytes, maxGapBytes] = [4 * 1024 * 1024, 32 * 1024];

/**
 * Those of `wanted` that one request had best fetch together with `first`: its neighbours, as long as little that is not
 * wanted lies between them.
 *
 * @param wanted in the order of the blob, `first` among them.
 */
export function runAround(wanted: readonly Member[], first: Member, maxBytes = maxRunBytes): Member[] {
  const at = wanted.indexOf(first);
  let [from, to] = [at, at + 1];
  let [begin, end] = [first.offset, endOf(first)];
  for (let next = wanted[to]; next !== undefined; next = wanted[to]) {
    if (next.offset - end > maxGapBytes || endOf(next) - begin > maxBytes) {
      break;
    }
    end = endOf(next);
    to += 1;
  }
  for (let next = wanted[from - 1]; next !== undefined; next = wanted[from - 1]) {
    if (begin - endOf(next) > maxGapBytes || end - next.offset > maxBytes) {
      break;
    }
    begin = next.offset;
    from -= 1;
  }
  return wanted.slice(from, to);
}

/** Where `member` ends in the blob. */
export function endOf({ offset, compressedBytes }: Pick<Member, "offset" | "compressedBytes">): number {
  return offset + compressedBytes;
}
