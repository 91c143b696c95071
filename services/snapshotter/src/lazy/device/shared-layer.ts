/**
 * What threads share of a layer: which chunks its data device has, and which of them are there. One thread, the one that
 * fetches, changes what is there; any may look.
 */
export interface SharedLayer {
  /** Names the layer for the kernel, for good: see {@link nodeOf}. */
  readonly number: number;
  /** File with the content of the data device, as far as it is there. */
  readonly dataPath: string;
  readonly deviceBytes: number;
  /** Where on the device each chunk begins, ascending, and how many bytes it has. */
  readonly starts: Float64Array<SharedArrayBuffer>;
  readonly sizes: Uint32Array<SharedArrayBuffer>;
  /** A bit for each chunk: it is in the data file, and has been checked against its digest by this process. */
  readonly verified: Int32Array<SharedArrayBuffer>;
  /** One number: how often chunks have been given up. Whoever has read what was there before looks whether it has changed. */
  readonly evictions: Int32Array<SharedArrayBuffer>;
  /** When each chunk was last used, by {@link clock}, which begins with 1; less for the time before the start; 0 for never. */
  readonly used: Float64Array<SharedArrayBuffer>;
  /** The order in which chunks were first read: how many there are, then their numbers. */
  readonly firstReads: Uint32Array<SharedArrayBuffer>;
  /** One number, which grows with every read. All layers have the same. */
  readonly clock: Float64Array<SharedArrayBuffer>;
}

/** The node of the root directory (FUSE_ROOT_ID). */
export const rootNode = 1;

/** The node of a layer's file. */
export function nodeOf(layerNumber: number): number {
  return layerNumber + rootNode;
}

/** First reads that are remembered: more say nothing of how a container starts. */
const maxFirstReads = 100_000;

export function shareLayer(
  layer: Pick<SharedLayer, "number" | "dataPath" | "deviceBytes" | "clock">,
  chunks: readonly { readonly start: number; readonly sizeBytes: number }[],
): SharedLayer {
  const starts = new Float64Array(new SharedArrayBuffer(chunks.length * 8));
  const sizes = new Uint32Array(new SharedArrayBuffer(chunks.length * 4));
  for (const [index, { start, sizeBytes }] of chunks.entries()) {
    starts[index] = start;
    sizes[index] = sizeBytes;
  }
  const { number, dataPath, deviceBytes, clock } = layer;
  return {
    number,
    dataPath,
    deviceBytes,
    clock,
    starts,
    sizes,
    verified: new Int32Array(new SharedArrayBuffer(Math.ceil(chunks.length / 32) * 4)),
    evictions: new Int32Array(new SharedArrayBuffer(4)),
    used: new Float64Array(new SharedArrayBuffer(chunks.length * 8)),
    firstReads: new Uint32Array(new SharedArrayBuffer((Math.min(chunks.length, maxFirstReads) + 1) * 4)),
  };
}

export function isVerified({ verified }: SharedLayer, chunk: number): boolean {
  return (Atomics.load(verified, chunk >>> 5) & (1 << (chunk & 31))) !== 0;
}

/** The first chunk that ends behind byte `offset` of the device, or the number of chunks. */
export function firstChunkBehind({ starts, sizes }: SharedLayer, offset: number): number {
  let [from, to] = [0, starts.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((starts[middle] ?? 0) + (sizes[middle] ?? 0) > offset) {
      to = middle;
    } else {
      from = middle + 1;
    }
  }
  return from;
}

/** Notes that `chunk` is being read. */
export function noteUse({ used, clock, firstReads }: SharedLayer, chunk: number): void {
  const now = (clock[0] ?? 0) + 1;
  clock[0] = now;
  if ((used[chunk] ?? 0) < 1) {
    const count = firstReads[0] ?? 0;
    if (count + 1 < firstReads.length) {
      firstReads[count + 1] = chunk;
      firstReads[0] = count + 1;
    }
  }
  used[chunk] = now;
}
