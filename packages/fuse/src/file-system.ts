/** Says that the answer to a read comes later, through `answerRead`. */
export const later = Number.MIN_SAFE_INTEGER;

/** A name in a directory. */
export interface Listed {
  readonly node: number;
  /** Type bits of the mode, such as 0o040000. */
  readonly typeBits: number;
  /** Bytes of the name, good until the next call. */
  readonly name: Uint8Array;
}

/**
 * A file system that does not change, as a thread serves it to the kernel: synchronous, and in the terms of the
 * protocol, because what is done here is done for each system call of somebody else.
 *
 * Nobody is told of files that are opened: the kernel asks once for any file and then never again, and opens files by itself,
 * also while nobody serves.
 *
 * Nodes are numbers below 2^53; the root is 1. A number always means the same file, also for the process that serves
 * after this one was killed. Methods that return a number return a negated errno for a failure.
 */
export interface FileSystem {
  /**
   * How long the kernel may answer from its memory. Names that are absent are remembered as well if `absent` is true.
   */
  readonly cache: { readonly seconds: number; readonly absent: boolean };

  /**
   * The node of the name in bytes `from` to `to` of `request` in the directory `parent`, or 0 for none. ENOENT says so as well,
   * and is never remembered.
   */
  lookup(parent: number, request: Buffer, from: number, to: number): number;

  /** Writes struct fuse_attr of `node` at `at` of `reply`, which is all zeros. False if there is no such node. */
  attributes(node: number, reply: Buffer, at: number): boolean;

  /** Writes the target of a symbolic link. @returns its length. */
  readLink(node: number, reply: Buffer, at: number): number;

  /**
   * The names in the directory `node`, from the one numbered `from`, `.` and `..` among them where it has them. Undefined if it is
   * no directory.
   */
  list(node: number, from: number): Iterator<Listed> | undefined;

  /** The value of an extended attribute; undefined if there is none. */
  xattr(node: number, name: string): Uint8Array | undefined;

  /** The names of the extended attributes. */
  xattrNames(node: number): readonly string[];

  /**
   * Writes up to `size` bytes of the file from `offset` on at `at` of `reply`.
   *
   * @param unique names the request, for {@link later}.
   * @returns how many bytes, fewer at the end of the file alone; or {@link later}.
   */
  read(node: number, offset: number, size: number, reply: Buffer, at: number, unique: bigint): number;

  /**
   * Whoever waits for the answer of `unique` has been sent a signal. Even one that kills them has no effect before they get an
   * answer: EINTR at once, or the content soon.
   */
  interrupt(unique: bigint): void;
}
