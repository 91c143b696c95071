/** What became of a path: added, changed or deleted. */
export type ChangeKind = "A" | "C" | "D";

/** What a path is. */
export type EntryType =
  | "file"
  | "directory"
  | "symlink"
  | "character device"
  | "block device"
  | "fifo"
  | "socket";

/** One path that differs between two trees. */
export interface Change {
  readonly kind: ChangeKind;
  /** From the top of the tree, without a slash before it. Bytes: names need not be UTF-8. Empty: the top itself. */
  readonly path: Buffer;
  /** What it is now; of a deleted one, what it was. */
  readonly type: EntryType;
  /** Permission bits, set-user-ID and its like included. */
  readonly mode: number;
  /** Length of a file, 0 of anything else. */
  readonly sizeBytes: number;
}
