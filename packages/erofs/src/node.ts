/** What each file of a tree has, whatever it is. */
export interface Attributes {
  /** The permission bits, with set-user-ID, set-group-ID and sticky: what `mode & 0o7777` leaves. */
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  /** Time of the last change, in nanoseconds since 1970. EROFS keeps no other time. */
  readonly modifiedNs: bigint;
  /** Extended attributes by name, such as `security.capability`; see `storableXattrs`. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface Directory extends Attributes {
  readonly kind: "directory";
  /** By name. A node that is here under several names, or in several directories, has several hard links. */
  readonly entries: ReadonlyMap<string, Node>;
}

export interface RegularFile extends Attributes {
  readonly kind: "file";
  readonly sizeBytes: number;
  /** Where its content begins on the data device, in blocks of {@link blockBytes}. Of an empty file: any number. */
  readonly dataBlock: number;
}

export interface SymbolicLink extends Attributes {
  readonly kind: "symbolic-link";
  readonly target: string;
}

/** A device; 0:0 as a character device is a whiteout of overlayfs. */
export interface Device extends Attributes {
  readonly kind: "character-device" | "block-device";
  readonly major: number;
  readonly minor: number;
}

export interface Endpoint extends Attributes {
  readonly kind: "fifo" | "socket";
}

/** A file of any kind. What is one file in the tree is one object here. */
export type Node = Directory | RegularFile | SymbolicLink | Device | Endpoint;

/** Block size of the images; the smallest page that Linux has. */
export const blockBytes = 4096;
