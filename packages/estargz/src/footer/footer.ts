/** How the chunks of a layer are compressed. */
export type ChunkCompression = "gzip" | "zstd";

/** Where in the blob a table of contents (TOC) is. */
export interface TocPlace {
  /** Of its first compressed byte. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** What the footer says that it is decompressed; undefined where it says nothing. */
  readonly uncompressedBytes: number | undefined;
}

/** What the end of a blob says. */
export interface Footer {
  /**
   * `legacy stargz` is what eStargz grew out of; with `external TOC` the TOC is in another image; `zstd:chunked` is the
   * format of podman, and stargz-snapshotter's of that name.
   */
  readonly format: "eStargz" | "legacy stargz" | "external TOC" | "zstd:chunked";
  readonly compression: ChunkCompression;
  /** Undefined where it is not in this blob. */
  readonly toc: TocPlace | undefined;
  /** Before this byte of the blob all chunks end. */
  readonly contentEnd: number;
}
