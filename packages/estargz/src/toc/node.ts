import type { Digest } from "@oci-worker/oci/digest";
import type { Chunk } from "../chunk.ts";

interface Metadata {
  /** Of this node among those of its layer, from 0, the root, in the order of the TOC: the same every time. */
  readonly index: number;
  /** Permission, setuid, setgid and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Since 1970. */
  readonly modifiedNs: bigint;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** How many names it has; of a directory, 2 and its directories. */
  readonly linkCount: number;
}

export interface DirectoryNode extends Metadata {
  readonly type: "directory";
  /** By name, in the order of the TOC. */
  readonly children: ReadonlyMap<string, Node>;
  /** It hides what lower layers have in it. */
  readonly isOpaque: boolean;
}

export interface FileNode extends Metadata {
  readonly type: "file";
  readonly sizeBytes: number;
  /** Of the whole file, as far as the TOC has it; it is the chunks' digests that are checked. */
  readonly digest: Digest | undefined;
  /** In the order of the file. Between them and after the last are zeros. */
  readonly chunks: readonly Chunk[];
}

export interface SymlinkNode extends Metadata {
  readonly type: "symlink";
  readonly target: string;
}

export interface DeviceNode extends Metadata {
  readonly type: "character device" | "block device";
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

export interface FifoNode extends Metadata {
  readonly type: "fifo";
}

/** Hides the file of its name in lower layers. */
export interface WhiteoutNode extends Metadata {
  readonly type: "whiteout";
}

/** A file of a layer, of whatever type. With several names it is the same object under each. */
export type Node = DirectoryNode | FileNode | SymlinkNode | DeviceNode | FifoNode | WhiteoutNode;

/** Without what readers may rely on: while the tree grows. */
export type Growing<T extends Node> = { -readonly [Key in keyof T]: T[Key] };

export interface GrowingDirectory extends Growing<DirectoryNode> {
  children: Map<string, Node>;
}
