import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileState, isSettled } from "@oci-worker/daemon/file-state";
import { InvalidArgumentError, ServiceError, UnavailableError } from "@oci-worker/errdefs";

/** What is said of a file that has gone since it was looked at. */
const absentCodes: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);

/**
 * What a content means, with the permissions of its file (inode(7), st_mode). Refuses one by an InvalidArgumentError that
 * does not show it.
 */
type Parse<T> = (bytes: Buffer, mode: number) => T;

interface Content<T> {
  /** What the kernel says of the file; empty if that may stay the same through a change. */
  readonly state: string;
  readonly mode: number;
  readonly bytes: Buffer;
  readonly value: T;
}

/**
 * A file of the operator's that is read again when it has changed, and may come and go.
 *
 * It is followed through symbolic links, so that a directory which Kubernetes has exchanged as a whole (`..data`) counts as a
 * change.
 */
export class FreshFile<T> {
  readonly path: string;
  readonly #parse: Parse<T>;
  readonly #maxBytes: number;
  #content: Content<T> | undefined;

  constructor(path: string, maxBytes: number, parse: Parse<T>) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#parse = parse;
  }

  /**
   * What `parse` has made of the content as it is now; undefined if there is no such file.
   *
   * @throws {UnavailableError} naming the file, if it cannot be read or is no good: it may be better at the next try.
   */
  async read(): Promise<T | undefined> {
    try {
      // Before the content, so that a change in between is seen the next time. By the thread pool it takes twenty times as
      // long, and that for each resolution.
      const stats = statSync(this.path, { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) {
        this.#content = undefined;
        return undefined;
      }
      const { size, mode } = stats;
      const state = fileState(stats);
      if (state === this.#content?.state) {
        return this.#content.value;
      }
      if (!stats.isFile()) {
        // A pipe would keep us waiting.
        throw new InvalidArgumentError("it is no regular file");
      }
      if (size > this.#maxBytes) {
        throw new InvalidArgumentError(`it has ${size} bytes, want at most ${this.#maxBytes}`);
      }
      const bytes = await readFile(this.path);
      const value = this.#valueOf(bytes, Number(mode));
      this.#content = { state: isSettled(stats) ? state : "", mode: Number(mode), bytes, value };
      return value;
    } catch (cause) {
      this.#content = undefined;
      if (cause instanceof Error && "code" in cause && absentCodes.has(String(cause.code))) {
        return undefined;
      }
      throw unusable(this.path, cause);
    }
  }

  /** A content that is the same is not parsed again, so that whatever it is warned of is told once. */
  #valueOf(bytes: Buffer, mode: number): T {
    const known = this.#content;
    return known?.mode === mode && known.bytes.equals(bytes) ? known.value : this.#parse(bytes, mode);
  }
}

function unusable(path: string, cause: unknown): UnavailableError {
  if (cause instanceof ServiceError) {
    return new UnavailableError(`Cannot use ${path}: ${cause.message}`, { cause });
  }
  const reason = cause instanceof Error && "code" in cause ? ` (${cause.code})` : "";
  return new UnavailableError(`Cannot use ${path}: it cannot be read${reason}`, { cause });
}
