import { createHash } from "node:crypto";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { bytesOf } from "@oci-worker/layer/tar/byte-string";
import type { TarEntry } from "@oci-worker/layer/tar/entry";
import { type TarMember, tarHeaders, tarPadding } from "@oci-worker/layer/tar/writer";
import { type Digest, digestOf, digestOfHash } from "@oci-worker/oci/digest";
import { tocDigestAnnotation, uncompressedSizeAnnotation } from "../annotations.ts";
import { landmarkContent, noPrefetchLandmark, prefetchLandmark } from "../toc/special-names.ts";
import { type ArrangedEntry, arrange } from "./arrange.ts";
import { BlobWriter, type Sink } from "./blob-writer.ts";
import { eStargz, zstdChunked } from "./formats.ts";
import { type LayerInput, spoolLayer } from "./input.ts";
import type { Spool } from "./spool.ts";
import { type TocLine, tocJson, tocLine } from "./toc-line.ts";

export interface BuildOptions {
  /** Default: eStargz. */
  readonly format?: "eStargz" | "zstd:chunked";
  /** Paths of files that shall be there before a container starts, in the order in which it reads them. */
  readonly priorities?: readonly string[];
  /** What is read of a file at once. Default: 4 MiB. */
  readonly chunkBytes?: number;
  /**
   * Small files share a member until it has this many bytes, which takes less room; reading one then takes reading what is
   * before it in the member. Default: 0, every file has its own, which every reader knows.
   */
  readonly minMemberBytes?: number;
  /** Of the compressor; by default its own. */
  readonly level?: number;
  /** Where there is room for the decompressed layer. Default: that for temporary files. */
  readonly directory?: string;
  /** Of all files of the layer, holes included. Default: 256 GiB. */
  readonly maxUnpackedBytes?: number;
  /** What the layer has to be, decompressed. Default: whatever it is. */
  readonly diffID?: Digest;
  readonly signal?: AbortSignal;
}

/** A layer that has been built. */
export interface BuiltLayer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Of the archive, decompressed; with eStargz the TOC is a file of it. It is not that of the layer it was made of. */
  readonly diffID: Digest;
  readonly archiveBytes: number;
  readonly tocDigest: Digest;
  /** What the layer's descriptor has to have, for others to trust its TOC. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Of the priorities, those that are not in the layer. */
  readonly missing: readonly string[];
}

/** What upstream takes too. */
const defaultChunkBytes = 4 * 1024 * 1024;
export const maxChunkBytes: number = 32 * 1024 * 1024;

const landmark: Pick<TarEntry, "type" | "mode" | "sizeBytes"> = {
  type: "file",
  mode: 0o644,
  sizeBytes: landmarkContent.length,
};

/**
 * Builds, of an ordinary layer, one that can be read in parts, and gives it to `sink` piece by piece.
 *
 * The same layer and options give the same bytes, with the same version of Node: it has the compressors. Nothing of the
 * files changes, but their headers are written anew: names of users and PAX records that unpackers ignore are left out.
 *
 * Takes, beside the metadata of the files, the memory of a few chunks, and in `directory` the room of the decompressed
 * layer. File calls block: for a thread that has nothing else to do.
 *
 * @throws {InvalidArgumentError} if the layer is corrupt.
 * @throws {InexpressibleError} if it has what a TOC cannot say: names that are not UTF-8, hard links to files of other
 *   layers, files beneath links.
 * @throws {DataLossError} if it is not what `diffID` says.
 * @throws {ResourceExhaustedError} if its files have more than `maxUnpackedBytes`.
 */
export async function buildLayer(
  input: LayerInput,
  sink: Sink,
  options: BuildOptions = {},
): Promise<BuiltLayer> {
  const { format: name = "eStargz", priorities = [], chunkBytes = defaultChunkBytes, level } = options;
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1 || chunkBytes > maxChunkBytes) {
    throw new InvalidArgumentError(
      `Cannot build layer: chunks of ${chunkBytes} bytes, want 1 to ${maxChunkBytes}`,
    );
  }
  using spool = await spoolLayer(input, options);
  const { first, rest, missing } = arrange(spool.entries, priorities);
  const format = name === "eStargz" ? eStargz(level) : zstdChunked(level);
  const writer = new BlobWriter(format, sink);
  const builder = new LayerBuilder(spool, writer, { ...options, chunkBytes });
  await builder.addAll(first);
  await builder.addLandmark(first.length > 0 ? prefetchLandmark : noPrefetchLandmark);
  await builder.addAll(rest);
  // Now all lines are complete.
  await writer.writeOut();
  const toc = tocJson(builder.lines);
  const tocDigest = digestOf(toc);
  const { annotations, ...written } = await writer.finish(toc);
  return {
    mediaType: format.mediaType,
    ...written,
    tocDigest,
    annotations: {
      [tocDigestAnnotation]: tocDigest,
      [uncompressedSizeAnnotation]: String(written.archiveBytes),
      ...annotations,
    },
    missing,
  };
}

/** Writes entries and notes where they are. */
class LayerBuilder {
  readonly lines: TocLine[] = [];
  readonly #spool: Spool;
  readonly #writer: BlobWriter;
  readonly #chunkBytes: number;
  readonly #minMemberBytes: number;
  readonly #signal: AbortSignal | undefined;

  constructor(spool: Spool, writer: BlobWriter, options: BuildOptions & { chunkBytes: number }) {
    this.#spool = spool;
    this.#writer = writer;
    this.#chunkBytes = options.chunkBytes;
    this.#minMemberBytes = options.minMemberBytes ?? 0;
    this.#signal = options.signal;
  }

  async addAll(entries: readonly ArrangedEntry[]): Promise<void> {
    for (const { entry, path, target, position } of entries) {
      this.#signal?.throwIfAborted();
      const line = tocLine(entry, nameOf(path, entry), target);
      this.#writer.write(tarHeaders(memberOf(entry, line), entry.sizeBytes, { exactTimes: true }));
      this.lines.push(line);
      if (entry.type === "file") {
        await this.#addContent(line, entry.sizeBytes, position);
      }
    }
  }

  /** Always with a member of its own: it is where prefetching ends. */
  async addLandmark(name: string): Promise<void> {
    const digest = digestOf(landmarkContent);
    const { mode, sizeBytes } = landmark;
    const line: TocLine = { name, type: "reg", size: sizeBytes, mode, digest, chunkDigest: digest };
    this.#writer.write(tarHeaders({ type: "file", name, mode }, sizeBytes));
    await this.#writer.startMember();
    this.#writer.locate(line);
    this.lines.push(line);
    this.#writer.write(Buffer.concat([landmarkContent, tarPadding(sizeBytes)]));
    if (this.#minMemberBytes > 0) {
      // Otherwise the next file does so.
      await this.#writer.startMember();
    }
  }

  async #addContent(first: TocLine, sizeBytes: number, position: number): Promise<void> {
    const hash = createHash("sha256");
    for (let at = 0; at < sizeBytes; at += this.#chunkBytes) {
      this.#signal?.throwIfAborted();
      const bytes = this.#spool.read(position + at, Math.min(this.#chunkBytes, sizeBytes - at));
      hash.update(bytes);
      const line: TocLine = at === 0 ? first : { name: first.name, type: "chunk", chunkOffset: at };
      if (at !== 0) {
        this.lines.push(line);
      }
      if (at + bytes.length < sizeBytes) {
        line.chunkSize = bytes.length;
      }
      line.chunkDigest = digestOf(bytes);
      if (this.#writer.memberBytes >= this.#minMemberBytes) {
        await this.#writer.startMember();
      }
      this.#writer.locate(line);
      this.#writer.write(bytes);
    }
    first.digest = digestOfHash(hash);
    this.#writer.write(tarPadding(sizeBytes));
  }
}

/** Directories end with a slash, as in the archive. */
function nameOf(path: string, { type }: TarEntry): string {
  return type === "directory" ? (path === "" ? "./" : `${path}/`) : path;
}

/** `entry` as it is written anew. */
function memberOf(entry: TarEntry, { name, linkName = "" }: TocLine): TarMember {
  const { type, mode, uid, gid, modifiedNs, deviceMajor, deviceMinor } = entry;
  const xattrs = Object.fromEntries(
    entry.xattrs.map(({ name: key, value }) => [bytesOf(key).toString(), value]),
  );
  return { type, name, linkName, mode, uid, gid, modifiedNs, deviceMajor, deviceMinor, xattrs };
}
