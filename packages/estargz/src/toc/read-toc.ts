import { createHash } from "node:crypto";
import { DataLossError, InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { decompress } from "@oci-worker/layer/compression/decompress";
import { bytesOf } from "@oci-worker/layer/tar/byte-string";
import { TarReader } from "@oci-worker/layer/tar/reader";
import { type Digest, digestOf, digestOfHash } from "@oci-worker/oci/digest";
import type { TocDigest } from "../annotations.ts";
import type { ChunkCompression } from "../footer/footer.ts";
import type { Limits } from "../limits.ts";
import { TocEntry } from "./entry.ts";
import { tocName } from "./special-names.ts";
import { TocJson } from "./toc-json.ts";
import type { LayerTree } from "./tree.ts";
import { TreeBuilder } from "./tree-builder.ts";

/** A TOC as it is in the blob. */
export interface CompressedToc {
  readonly bytes: Buffer;
  readonly compression: ChunkCompression;
  /** What the footer says that it is decompressed; undefined where it says nothing. */
  readonly uncompressedBytes: number | undefined;
  /** Before this byte of the blob all chunks end. */
  readonly contentEnd: number;
}

/** What a TOC says, and the digest of its JSON. */
export interface ReadToc {
  readonly tree: LayerTree;
  readonly tocDigest: Digest;
}

/** Of the archive around the JSON of an eStargz. GNU tar ends one with up to 10 KiB of zeros. */
const maxArchiveBytes = 64 * 1024;

/**
 * Reads a TOC, a piece at a time: what is in memory at the end is the tree, and never the whole JSON.
 *
 * @param trusted what it has to be; undefined: whatever it is.
 * @throws {DataLossError} if it is not that.
 * @throws {ResourceExhaustedError} if it is over one of the `limits`.
 * @throws {InvalidArgumentError} if it is malformed.
 */
export async function readToc(
  toc: CompressedToc,
  trusted: TocDigest | undefined,
  limits: Limits,
): Promise<ReadToc> {
  if (trusted?.of === "compressed JSON") {
    requireDigest(digestOf(toc.bytes), trusted.digest);
  }
  if (toc.uncompressedBytes !== undefined) {
    requireTocBytes(toc.uncompressedBytes, limits);
  }
  const builder = new TreeBuilder(toc.contentEnd, limits);
  const hash = createHash("sha256");
  let failure: unknown;
  const entry = new TocEntry();
  const entries = new TocJson((fields, index) => {
    entry.read(fields, index);
    builder.add(entry);
  }, limits.maxEntries);
  const takeJson = (bytes: Buffer): void => {
    hash.update(bytes);
    // What is wrong with it matters only if it is what it should be.
    failure ??= errorOf(() => entries.write(bytes));
  };
  const sink = toc.compression === "gzip" ? archivedJson(takeJson, limits) : plainJson(takeJson, limits);
  for await (const piece of decompress(toc.compression, [toc.bytes], toc.bytes.length)) {
    sink.write(piece);
    if (failure !== undefined && trusted?.of !== "JSON") {
      throw failure;
    }
  }
  sink.end();
  const tocDigest = digestOfHash(hash);
  if (trusted?.of === "JSON") {
    requireDigest(tocDigest, trusted.digest);
  }
  if (failure !== undefined) {
    throw failure;
  }
  entries.end();
  return { tree: builder.finish(), tocDigest };
}

function errorOf(action: () => void): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

function requireDigest(digest: Digest, wanted: Digest): void {
  if (digest !== wanted) {
    throw new DataLossError(`Cannot read TOC: its digest is ${digest}, want ${wanted}`);
  }
}

function requireTocBytes(sizeBytes: number, limits: Limits): void {
  if (sizeBytes > limits.maxTocBytes) {
    throw new ResourceExhaustedError(
      `Cannot read TOC: it has ${sizeBytes} bytes or more, want at most ${limits.maxTocBytes}`,
    );
  }
}

interface Sink {
  write(piece: Buffer): void;
  end(): void;
}

/** zstd:chunked has the JSON as it is. */
function plainJson(takeJson: (bytes: Buffer) => void, limits: Limits): Sink {
  let totalBytes = 0;
  return {
    write(piece) {
      totalBytes += piece.length;
      requireTocBytes(totalBytes, limits);
      takeJson(piece);
    },
    end: () => undefined,
  };
}

/** eStargz has the JSON in an archive of its own. */
function archivedJson(takeJson: (bytes: Buffer) => void, limits: Limits): Sink {
  let totalBytes = 0;
  let jsonBytes: number | undefined;
  const reader = new TarReader({
    entry({ name, type, sizeBytes }) {
      const text = bytesOf(name)
        .toString()
        .replace(/^\.?\//, "");
      if (text !== tocName || type !== "file" || jsonBytes !== undefined) {
        throw new InvalidArgumentError(
          `Cannot read TOC: in its place is ${JSON.stringify(text.slice(0, 200))}, want one file named ${tocName}`,
        );
      }
      requireTocBytes(sizeBytes, limits);
      jsonBytes = sizeBytes;
    },
    content: takeJson,
    entryEnd: () => undefined,
  });
  return {
    write(piece) {
      totalBytes += piece.length;
      requireTocBytes(totalBytes - maxArchiveBytes, limits);
      reader.write(piece);
    },
    end() {
      reader.end();
      if (jsonBytes === undefined) {
        throw new InvalidArgumentError(`Cannot read TOC: there is no file named ${tocName} in its place`);
      }
    },
  };
}
