import { writeAttributes } from "./attributes.ts";
import { errno } from "./errno.ts";
import { type FileSystem, type Listed, later } from "./file-system.ts";

/** What the program that serves a sample tells of itself, a line each. */
export const servingLine = "serving";
export const lateLine = "late";

/** What it answers when it is told to by its argument. */
export const lateContent = "answered late";

/** A file of {@link SampleFileSystem}. Its node is its place in the list, counted from 1. */
export interface SampleFile {
  readonly mode: number;
  readonly content?: string;
  readonly children?: Readonly<Record<string, number>>;
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Reads are answered by somebody else. */
  readonly isLate?: boolean;
  /** Reads throw. */
  readonly isBroken?: boolean;
}

export interface SampleOptions {
  readonly cacheSeconds?: number;
  readonly onLate?: (unique: bigint, offset: number, size: number) => void;
  readonly onInterrupt?: (unique: bigint) => void;
}

/** A few files in memory. */
export class SampleFileSystem implements FileSystem {
  readonly cache;
  readonly #files: readonly SampleFile[];
  readonly #options: SampleOptions;

  constructor(files: readonly SampleFile[], options: SampleOptions = {}) {
    const { cacheSeconds = 1000 } = options;
    this.#files = files;
    this.#options = options;
    this.cache = { seconds: cacheSeconds, absent: cacheSeconds > 0 };
  }

  lookup(parent: number, request: Buffer, from: number, to: number): number {
    return this.#file(parent)?.children?.[request.toString("utf8", from, to)] ?? 0;
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    const file = this.#file(node);
    if (file === undefined) {
      return false;
    }
    const size = Buffer.byteLength(file.content ?? "");
    writeAttributes(reply, at, {
      inode: node,
      sizeBytes: size,
      mode: file.mode,
      links: 1,
      uid: 0,
      gid: 0,
      deviceNumber: 0,
      modifiedSeconds: 1_000_000_000n,
      modifiedNanos: 123_456_789,
    });
    return true;
  }

  readLink(node: number, reply: Buffer, at: number): number {
    return this.#put(this.#file(node)?.content ?? "", reply, at);
  }

  list(node: number, from: number): Iterator<Listed> | undefined {
    const children = this.#file(node)?.children;
    if (children === undefined) {
      return undefined;
    }
    return Object.entries({ ".": node, "..": node, ...children })
      .slice(from)
      .map(([name, child]) => ({
        node: child,
        typeBits: (this.#file(child)?.mode ?? 0) & 0o170000,
        name: Buffer.from(name),
      }))
      .values();
  }

  xattr(node: number, name: string): Uint8Array | undefined {
    const value = this.#file(node)?.xattrs?.[name];
    return value === undefined ? undefined : Buffer.from(value);
  }

  xattrNames(node: number): readonly string[] {
    return Object.keys(this.#file(node)?.xattrs ?? {});
  }

  read(node: number, offset: number, size: number, reply: Buffer, at: number, unique: bigint): number {
    const file = this.#file(node);
    if (file === undefined) {
      return -errno.EIO;
    }
    if (file.isBroken) {
      throw new Error("broken");
    }
    if (file.isLate) {
      this.#options.onLate?.(unique, offset, size);
      return later;
    }
    const content = Buffer.from(file.content ?? "").subarray(offset, offset + size);
    content.copy(reply, at);
    return content.length;
  }

  interrupt(unique: bigint): void {
    this.#options.onInterrupt?.(unique);
  }

  #file(node: number): SampleFile | undefined {
    return this.#files[node - 1];
  }

  #put(text: string, reply: Buffer, at: number): number {
    return reply.write(text, at);
  }
}
