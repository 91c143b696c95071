import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";
import type { Format } from "./formats.ts";
import type { TocLine } from "./toc-line.ts";

/** Takes the bytes of a blob in turn; the next come when it has resolved. */
export type Sink = (bytes: Buffer) => Promise<unknown>;

/** A member that is being compressed, and the lines of the TOC that say where it is. */
interface Member {
  readonly compressed: Promise<Buffer>;
  readonly lines: readonly TocLine[];
}

/** Members that are compressed at once. More than there are processors only takes memory. */
const concurrency = Math.max(2, Math.min(4, availableParallelism()));

/**
 * Writes an archive to a blob as a sequence of compressed members, with several in work. How many makes no difference
 * to what it writes.
 */
export class BlobWriter {
  readonly #format: Format;
  readonly #sink: Sink;
  readonly #archiveHash = createHash("sha256");
  readonly #blobHash = createHash("sha256");
  #archiveBytes = 0;
  #blobBytes = 0;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #lines: TocLine[] = [];
  readonly #inWork: Member[] = [];

  constructor(format: Format, sink: Sink) {
    this.#format = format;
    this.#sink = sink;
  }

  /** How many bytes of the archive are in the member that is open. */
  get memberBytes(): number {
    return this.#pieceBytes;
  }

  /** Adds to the member that is open. `bytes` is kept: it must not change any more. */
  write(bytes: Buffer): void {
    this.#archiveHash.update(bytes);
    this.#archiveBytes += bytes.length;
    this.#pieces.push(bytes);
    this.#pieceBytes += bytes.length;
  }

  /** `line` is about what comes next: it will say where the member begins that is open. */
  locate(line: TocLine): void {
    if (this.#pieceBytes > 0) {
      line.innerOffset = this.#pieceBytes;
    }
    this.#lines.push(line);
  }

  /** What comes next shall begin a member. */
  async startMember(): Promise<void> {
    if (this.#pieceBytes === 0) {
      return;
    }
    const bytes = Buffer.concat(this.#pieces);
    const compressed = this.#format.compress(bytes);
    // It is waited for later; until then a failure of it is nobody's.
    compressed.catch(() => undefined);
    this.#inWork.push({ compressed, lines: this.#lines });
    this.#pieces = [];
    this.#pieceBytes = 0;
    this.#lines = [];
    if (this.#inWork.length >= concurrency) {
      await this.#writeOldest();
    }
  }

  /** Ends the archive with the TOC. */
  async finish(toc: Buffer): Promise<Written> {
    await this.writeOut();
    const offset = this.#blobBytes;
    const ending = this.#format.ending(toc);
    this.write(ending.archive);
    await this.writeOut();
    const after = await ending.after(offset, this.#blobBytes - offset);
    await this.#write(after);
    return {
      digest: digestOfHash(this.#blobHash),
      sizeBytes: this.#blobBytes,
      diffID: digestOfHash(this.#archiveHash),
      archiveBytes: this.#archiveBytes,
      annotations: this.#format.annotations(toc, after, this.#blobBytes),
    };
  }

  /** Waits until all that came is written: from then on every line says where its member is. */
  async writeOut(): Promise<void> {
    await this.startMember();
    while (this.#inWork.length > 0) {
      await this.#writeOldest();
    }
  }

  async #writeOldest(): Promise<void> {
    const member = this.#inWork.shift();
    if (member === undefined) {
      return;
    }
    for (const line of member.lines) {
      line.offset = this.#blobBytes;
    }
    await this.#write(await member.compressed);
  }

  async #write(bytes: Buffer): Promise<void> {
    this.#blobHash.update(bytes);
    this.#blobBytes += bytes.length;
    await this.#sink(bytes);
  }
}

export interface Written {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffID: Digest;
  readonly archiveBytes: number;
  readonly annotations: Readonly<Record<string, string>>;
}
