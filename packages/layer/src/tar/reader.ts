import { InvalidArgumentError } from "@oci-worker/errdefs";
import { quoted } from "./byte-string.ts";
import { entryOf, type TarEntry } from "./entry.ts";
import { ExtensionBody, type Extensions, extensionBytes } from "./extension.ts";
import { blockBytes, type Header, isZeroBlock, readHeader, typeFlags } from "./header.ts";
import type { PaxRecords } from "./pax.ts";
import {
  checkSegments,
  paxSparse,
  readGnuSparseExtension,
  readGnuSparseHeader,
  type Segment,
  SparseMap,
} from "./sparse.ts";

/** Who is told what a {@link TarReader} reads, in the order of the archive. What it throws ends the reading. */
export interface TarHandler {
  /** A new entry; its content follows. */
  entry(entry: TarEntry): void;
  /**
   * `bytes`, valid during this call only, are at `position` of the content. Positions only grow; what they leave out is
   * a hole.
   */
  content(bytes: Buffer, position: number): void;
  /** All of the entry has been told. */
  entryEnd(): void;
}

/** What the next bytes are. A block is of {@link blockBytes}. */
type Expecting =
  /** a block: a header, or the zeros that end the archive */
  | "header"
  /** blocks: the body of an extension header */
  | "extension"
  /** a block: more of the map of an old GNU sparse file */
  | "sparse extension"
  /** a block: more of the map of a sparse file of version 1.0 */
  | "sparse map"
  /** bytes: a segment of the content */
  | "content"
  /** bytes that say nothing: padding after content, the body of a global header */
  | "padding"
  /** a block: the second of the two that end the archive */
  | "second zero block"
  /** anything: it is past the end */
  | "nothing";

const noExtensions: Extensions = {};

/**
 * Reads a tar archive that is pushed into it piece by piece: v7, ustar, PAX, GNU and star, sparse files in all four
 * forms. How the archive is cut into pieces makes no difference.
 *
 * Takes no more memory than one extension header, whatever the archive says.
 *
 * Readings that differ between programs are how files are smuggled past a scanner, so where the formats leave a choice
 * this one chooses what Go's archive/tar does, and what is malformed is an error rather than a guess.
 */
export class TarReader {
  readonly #handler: TarHandler;
  #expecting: Expecting = "header";

  /** The beginning of a block that came in pieces. */
  readonly #partialBlock = Buffer.alloc(blockBytes);
  #partialBytes = 0;

  #extensions = noExtensions;
  #extensionBody: ExtensionBody | undefined;

  /** The entry whose headers are not all read. */
  #pending: TarEntry | undefined;
  #segments: Segment[] = [];
  #storedBytes = 0;
  #sparseMap = new SparseMap();

  #segmentIndex = 0;
  #position = 0;
  /** Of the segment, of the padding, whichever is expected. */
  #remainingBytes = 0;
  #paddingBytes = 0;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  /**
   * Reads on.
   *
   * @throws {InvalidArgumentError} saying what is malformed. The reader cannot be used afterwards.
   */
  write(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && this.#expecting !== "nothing") {
      if (this.#expecting === "content" || this.#expecting === "padding") {
        at += this.#takeBytes(chunk, at);
      } else if (this.#partialBytes === 0 && chunk.length - at >= blockBytes) {
        this.#takeBlock(chunk, at);
        at += blockBytes;
      } else {
        at += this.#takePartialBlock(chunk, at);
      }
    }
  }

  /**
   * Says that there is no more. An archive may end without its zero blocks, but not within an entry.
   *
   * @throws {InvalidArgumentError} if it does.
   */
  end(): void {
    const isWhole =
      (this.#expecting === "header" && this.#extensions === noExtensions) ||
      this.#expecting === "second zero block" ||
      this.#expecting === "nothing";
    if (!isWhole || this.#partialBytes > 0) {
      throw new InvalidArgumentError(
        `Cannot read tar: it ends early, ${this.#expecting === "header" ? "within a header" : `where ${this.#expecting} should follow`}`,
      );
    }
  }

  #takePartialBlock(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#partialBlock, this.#partialBytes, at);
    this.#partialBytes += taken;
    if (this.#partialBytes === blockBytes) {
      this.#partialBytes = 0;
      this.#takeBlock(this.#partialBlock, 0);
    }
    return taken;
  }

  #takeBlock(block: Buffer, offset: number): void {
    switch (this.#expecting) {
      case "header":
        if (isZeroBlock(block, offset)) {
          this.#expecting = "second zero block";
        } else {
          this.#takeHeader(block, offset);
        }
        return;
      case "second zero block":
        if (!isZeroBlock(block, offset)) {
          throw new InvalidArgumentError("Cannot read tar: a block of zeros stands between entries");
        }
        this.#expecting = "nothing";
        return;
      case "extension":
        this.#takeExtension(block, offset);
        return;
      case "sparse extension":
        if (!readGnuSparseExtension(this.#segments, block, offset)) {
          this.#startEntry();
        }
        return;
      case "sparse map":
        this.#takeSparseMap(block, offset);
        return;
      case "content":
      case "padding":
      case "nothing":
        throw new Error(`tar reader has a block, but expects ${this.#expecting}`);
    }
  }

  #takeHeader(block: Buffer, offset: number): void {
    const header = readHeader(block, offset);
    this.#extensionBody = ExtensionBody.of(header);
    if (this.#extensionBody !== undefined) {
      this.#expecting = "extension";
      this.#endExtension(this.#extensionBody);
    } else if (header.typeFlag === typeFlags.globalPax) {
      // Nothing in it may change an entry: containerd and Docker skip it too, so all see the same files.
      this.#startPadding(roundUp(extensionBytes(header, Number.MAX_SAFE_INTEGER - blockBytes)));
    } else {
      this.#takeEntry(header, block, offset);
    }
  }

  #takeExtension(block: Buffer, offset: number): void {
    if (this.#extensionBody !== undefined) {
      this.#extensionBody.addBlock(block, offset);
      this.#endExtension(this.#extensionBody);
    }
  }

  /** If it has come to its end: there are empty ones. */
  #endExtension(body: ExtensionBody): void {
    if (body.isWhole) {
      this.#extensions = body.addedTo(this.#extensions);
      this.#expecting = "header";
    }
  }

  #takeEntry(header: Header, block: Buffer, offset: number): void {
    const { pax } = this.#extensions;
    const entry = entryOf(header, this.#extensions);
    this.#extensions = noExtensions;
    this.#storedBytes = entry.sizeBytes;
    this.#paddingBytes = roundUp(entry.sizeBytes) - entry.sizeBytes;
    this.#segments = [{ position: 0, lengthBytes: entry.sizeBytes }];
    this.#pending = entry;
    if (header.typeFlag === typeFlags.gnuSparse) {
      this.#takeGnuSparse(header, entry, block, offset);
    } else if (pax !== undefined && entry.type === "file") {
      this.#takePaxSparse(entry, pax);
    } else {
      this.#startEntry();
    }
  }

  #takeGnuSparse(header: Header, entry: TarEntry, block: Buffer, offset: number): void {
    if (!header.isGnu) {
      throw new InvalidArgumentError(
        `Cannot read tar entry ${quoted(entry.name)}: it is a GNU sparse file in an archive of another format`,
      );
    }
    const { segments, isExtended, realSizeBytes } = readGnuSparseHeader(block, offset);
    this.#segments = segments;
    this.#pending = { ...entry, sizeBytes: realSizeBytes };
    if (isExtended) {
      this.#expecting = "sparse extension";
    } else {
      this.#startEntry();
    }
  }

  #takePaxSparse(entry: TarEntry, pax: PaxRecords): void {
    const sparse = paxSparse(pax);
    if (sparse === undefined) {
      this.#startEntry();
      return;
    }
    this.#pending = { ...entry, sizeBytes: sparse.realSizeBytes };
    if (sparse.segments === undefined) {
      this.#sparseMap = new SparseMap();
      this.#expecting = "sparse map";
    } else {
      this.#segments = sparse.segments;
      this.#startEntry();
    }
  }

  #takeSparseMap(block: Buffer, offset: number): void {
    this.#storedBytes -= blockBytes;
    if (this.#sparseMap.addBlock(block, offset)) {
      this.#segments = this.#sparseMap.segments;
      this.#startEntry();
    }
  }

  #startEntry(): void {
    const entry = this.#pending;
    if (entry === undefined) {
      throw new Error("tar reader has no entry to start");
    }
    checkSegments(this.#segments, entry.sizeBytes, this.#storedBytes);
    this.#pending = undefined;
    this.#handler.entry(entry);
    this.#segmentIndex = 0;
    this.#startSegment();
  }

  /** Segments without bytes are there too: GNU tar marks the end of a file that ends with a hole so. */
  #startSegment(): void {
    let segment = this.#segments[this.#segmentIndex];
    while (segment?.lengthBytes === 0) {
      this.#segmentIndex += 1;
      segment = this.#segments[this.#segmentIndex];
    }
    if (segment === undefined) {
      this.#handler.entryEnd();
      this.#startPadding(this.#paddingBytes);
      return;
    }
    this.#segmentIndex += 1;
    this.#position = segment.position;
    this.#remainingBytes = segment.lengthBytes;
    this.#expecting = "content";
  }

  #startPadding(bytes: number): void {
    this.#remainingBytes = bytes;
    this.#expecting = bytes === 0 ? "header" : "padding";
  }

  /** Takes what of the content or the padding `chunk` has, from `at` on. */
  #takeBytes(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#remainingBytes, chunk.length - at);
    this.#remainingBytes -= taken;
    if (this.#expecting === "content") {
      this.#handler.content(chunk.subarray(at, at + taken), this.#position);
      this.#position += taken;
    }
    if (this.#remainingBytes === 0) {
      if (this.#expecting === "content") {
        this.#startSegment();
      } else {
        this.#expecting = "header";
      }
    }
    return taken;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes;
}
