/** How much of a layer's metadata we take, because a registry may send anything. All but the first are per item. */
export interface Limits {
  /** Files, links, directories and further chunks that one layer may list. */
  readonly maxEntries: number;
  /** Of the TOC, decompressed. */
  readonly maxTocBytes: number;
  /** Of the TOC, as it is in the blob. */
  readonly maxCompressedTocBytes: number;
  /** Of what has to be decompressed for one chunk, the chunk included: it is all in memory at once. */
  readonly maxMemberBytes: number;
}

/**
 * Measured: an entry takes about 320 bytes of TOC, 50 of them compressed, and 150 of memory. 150 MiB is where
 * containers/storage stops reading too. Chunks are 4 MiB where nobody has asked for others.
 */
export const defaultLimits: Limits = {
  maxEntries: 500_000,
  maxTocBytes: 150 * 1024 * 1024,
  maxCompressedTocBytes: 64 * 1024 * 1024,
  maxMemberBytes: 64 * 1024 * 1024,
};
