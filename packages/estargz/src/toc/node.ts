import type { Chunk } from "../chunk.ts";
import type { Xattrs } from "./xattrs.ts";

interface Metadata {
  /** Of this node among those of its layer, from 0, the root, in the order of the TOC: the same every time. */
  readonly index: number;
  /** Permission, setuid, setgid and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Since 1970. */
  readonly modifiedNs: bigint;
  readonly xattrs: Xattrs;
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
