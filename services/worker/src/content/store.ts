import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataLossError, NotFoundError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { type Digest, digestOfHash, hexOf, parseDigest } from "@oci-worker/oci/digest";
import { newId } from "../new-id.ts";

/** What a blob that is to be written must turn out to be. */
export interface ExpectedBlob {
  readonly digest: Digest;
  /** In bytes; undefined if nobody has said. */
  readonly sizeBytes: number | undefined;
  /** It is made here and now: one that is broken off is never taken up again. */
  readonly isLocal?: boolean;
}

export interface BlobInfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly createdAt: Date;
}

/** Gives the bytes of a blob from `offset` on. */
export type BlobSource = (offset: number, signal: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;

/** What is left of a transfer may be taken up again within a day; containerd's leases for the same are as long. */
const abandonedAfterMs = 24 * 60 * 60 * 1000;

/** Ends the name of what is left of a blob that nobody can take up again. */
const localSuffix = ".local";

/** Told how many bytes of a blob are there, those of an earlier attempt included. */
export type ProgressListener = (sizeBytes: number) => void;

/**
 * Blobs on disk by their digest, in the layout of containerd's and of OCI image layouts: `blobs/sha256/<hex>`.
 *
 * A blob is there whole, verified and safe from a power cut, or not at all. One that was broken off is taken up where
 * it ended by the next attempt.
 */
export class ContentStore {
  readonly #blobs: string;
  readonly #ingest: string;
  readonly #writes = new Flights<void>();
  /** Blobs that are being deleted: whoever asks for one waits, and is told that it is not there. */
  readonly #deletions = new Map<Digest, Promise<void>>();

  private constructor(root: string) {
    this.#blobs = join(root, "blobs", "sha256");
    this.#ingest = join(root, "ingest");
  }

  static async open(root: string): Promise<ContentStore> {
    const store = new ContentStore(root);
    await mkdir(store.#blobs, { recursive: true, mode: 0o700 });
    await mkdir(store.#ingest, { recursive: true, mode: 0o700 });
    await store.#removeAbandoned();
    return store;
  }

  /** Where there is room for what a blob is made of: on its disk. What is left there is removed at the next start. */
  get scratchDirectory(): string {
    return this.#ingest;
  }

  /** Where the blob `digest` is or will be. */
  path(digest: Digest): string {
    return join(this.#blobs, hexOf(digest));
  }

  /** What is known of a blob, or undefined if it is not there. */
  async info(digest: Digest): Promise<BlobInfo | undefined> {
    await this.#deletions.get(digest);
    try {
      const { size, birthtime } = await stat(this.path(digest));
      return { digest, sizeBytes: size, createdAt: birthtime };
    } catch (error) {
      if (isAbsence(error)) {
        return undefined;
      }
      throw error;
    }
  }

  /** Every blob, in no promised order. */
  async *list(): AsyncGenerator<BlobInfo> {
    for (const name of await readdir(this.#blobs)) {
      const info = await this.info(parseDigest(`sha256:${name}`));
      if (info !== undefined) {
        yield info;
      }
    }
  }

  /**
   * The whole content of a small blob, verified again: a manifest or a config.
   *
   * @throws {NotFoundError} if it is not there.
   * @throws {ResourceExhaustedError} if it is larger than `maxBytes`.
   * @throws {DataLossError} if the disk gives back something else.
   */
  async read(digest: Digest, maxBytes: number): Promise<Buffer> {
    const info = await this.info(digest);
    if (info === undefined) {
      throw new NotFoundError(`Cannot read blob ${digest}: not found`);
    }
    if (info.sizeBytes > maxBytes) {
      throw new ResourceExhaustedError(
        `Cannot read blob ${digest}: it has ${info.sizeBytes} bytes, want at most ${maxBytes}`,
      );
    }
    await using file = await open(this.path(digest));
    const content = await file.readFile();
    requireDigest(digest, createHash("sha256").update(content));
    return content;
  }

  /**
   * Makes sure that the blob is there, from `source` if it is not.
   *
   * Several calls for one blob share one transfer.
   *
   * @throws {DataLossError} if the bytes are not those that `expected` promises; what was written is removed then.
   */
  async write(
    expected: ExpectedBlob,
    source: BlobSource,
    onProgress: ProgressListener,
    signal: AbortSignal,
  ): Promise<void> {
    if ((await this.info(expected.digest)) !== undefined) {
      return;
    }
    await this.#writes.join(
      expected.digest,
      (shared) => this.#ingestBlob(expected, source, onProgress, shared),
      signal,
    );
  }

  /**
   * Makes sure that the blob of `bytes`, which are all at hand, is there.
   *
   * What an attempt before has left of it, one that was killed or had no room on the disk, is gone on with; the bytes after
   * that alone are added.
   *
   * @throws {DataLossError} if they are not those of `digest`.
   */
  async writeBytes(digest: Digest, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.write(
      { digest, sizeBytes: bytes.length, isLocal: true },
      async (offset) => only(bytes.subarray(offset)),
      () => undefined,
      signal,
    );
  }

  /**
   * Makes a blob whose digest is known only when it is written.
   *
   * @param write fills the file, and says what it has become. Before it does, somebody has to need the blob.
   */
  async create<T extends Pick<BlobInfo, "digest">>(write: (file: FileHandle) => Promise<T>): Promise<T> {
    const partial = join(this.#ingest, `${newId()}${localSuffix}`);
    try {
      await using file = await open(partial, "wx", 0o600);
      const written = await write(file);
      await file.sync();
      await this.#deletions.get(written.digest);
      await rename(partial, this.path(written.digest));
      await syncDirectory(this.#blobs);
      return written;
    } finally {
      await rm(partial, { force: true });
    }
  }

  /**
   * Removes a blob; one that is not there is no error.
   *
   * It is as good as gone when this returns its promise: who has found out before that nobody needs it, and calls this
   * without waiting in between, takes it from nobody.
   */
  delete(digest: Digest): Promise<void> {
    const deletion =
      this.#deletions.get(digest) ??
      rm(this.path(digest), { force: true }).finally(() => this.#deletions.delete(digest));
    this.#deletions.set(digest, deletion);
    return deletion;
  }

  async #ingestBlob(
    expected: ExpectedBlob,
    source: BlobSource,
    onProgress: ProgressListener,
    signal: AbortSignal,
  ): Promise<void> {
    const suffix = expected.isLocal === true ? localSuffix : "";
    const partial = join(this.#ingest, `${hexOf(expected.digest)}${suffix}`);
    try {
      await using file = await open(partial, "a", 0o600);
      const { size: offset } = await file.stat();
      const hash = await hashOf(partial, offset, signal);
      const chunks = await source(offset, signal);
      const written = await append(file, hash, offset, expected, chunks, onProgress, signal);
      requireSize(expected, written);
      requireDigest(expected.digest, hash);
      await file.sync();
    } catch (error) {
      if (error instanceof DataLossError) {
        // Nothing that comes after wrong bytes makes them right.
        await rm(partial, { force: true });
      }
      throw error;
    }
    await rename(partial, this.path(expected.digest));
    await syncDirectory(this.#blobs);
  }

  /** Removes what is left of transfers that nobody has taken up for long. */
  async #removeAbandoned(): Promise<void> {
    for (const name of await readdir(this.#ingest)) {
      const path = join(this.#ingest, name);
      const { mtimeMs } = await stat(path);
      if (name.endsWith(localSuffix) || Date.now() - mtimeMs > abandonedAfterMs) {
        await rm(path, { force: true, recursive: true });
      }
    }
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Writes `chunks` after the `offset` bytes that are there. More than was promised ends it at once. */
async function append(
  file: FileHandle,
  hash: Hash,
  offset: number,
  expected: ExpectedBlob,
  chunks: AsyncIterable<Uint8Array>,
  onProgress: ProgressListener,
  signal: AbortSignal,
): Promise<number> {
  let written = offset;
  for await (const chunk of chunks) {
    signal.throwIfAborted();
    hash.update(chunk);
    await file.write(chunk);
    written += chunk.length;
    onProgress(written);
    if (expected.sizeBytes !== undefined && written > expected.sizeBytes) {
      break;
    }
  }
  return written;
}

function requireSize({ digest, sizeBytes }: ExpectedBlob, written: number): void {
  if (sizeBytes !== undefined && written !== sizeBytes) {
    const got = written > sizeBytes ? "more than those" : `${written}`;
    throw new DataLossError(`Cannot use blob ${digest}: got ${got} bytes, want ${sizeBytes}`);
  }
}

function requireDigest(want: Digest, hash: Hash): void {
  const got = digestOfHash(hash);
  if (got !== want) {
    throw new DataLossError(`Cannot use blob ${want}: what came has the digest ${got}`);
  }
}

/** The hash of the first `size` bytes of a file, to go on with. */
async function hashOf(path: string, size: number, signal: AbortSignal): Promise<Hash> {
  const hash = createHash("sha256");
  if (size > 0) {
    for await (const chunk of createReadStream(path, { end: size - 1, signal })) {
      hash.update(chunk);
    }
  }
  return hash;
}

/** A renamed file is only safe when the directory that names it is (rename(2), fsync(2)). */
async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
