import { withRoom } from "./columns.ts";
import type { EntryType, TocEntry } from "./entry.ts";
import type { Xattrs } from "./xattrs.ts";

/** What a node can be: the types of entries that are files of their own, and what hides one in lower layers. */
export type NodeType = Exclude<EntryType, "hard link" | "chunk"> | "whiteout";

/** Numbers of types in a {@link NodeTable}. */
export const nodeTypes = {
  directory: 0,
  file: 1,
  symlink: 2,
  "character device": 3,
  "block device": 4,
  fifo: 5,
  whiteout: 6,
} as const satisfies Record<NodeType, number>;

const typeNames = Object.keys(nodeTypes) as NodeType[];

/** The nodes of a layer, a column for each of their fields. Number 0 is the root. */
export interface NodeTable {
  readonly count: number;
  readonly types: Uint8Array;
  /** Permission, setuid, setgid and sticky bits. */
  readonly modes: Uint16Array;
  readonly uids: Uint32Array;
  readonly gids: Uint32Array;
  /** Since 1970; the nanoseconds count up from there. */
  readonly seconds: Float64Array;
  readonly nanos: Uint32Array;
  /** Of files. */
  readonly sizes: Float64Array;
  /**
   * Of a file its first chunk, of a symbolic link where its target begins in the texts, of a device its major number, of a
   * directory the name that it has.
   */
  readonly firsts: Uint32Array;
  /** Of a file how many chunks it has, of a symbolic link the bytes of its target, of a device its minor number. */
  readonly counts: Uint32Array;
  /** Of those that have some. */
  readonly xattrs: ReadonlyMap<number, Xattrs>;
  /** Directories that hide what lower layers have in them. */
  readonly opaque: ReadonlySet<number>;
}

export function typeOf(nodes: NodeTable, node: number): NodeType {
  return typeNames[nodes.types[node] ?? 0] ?? "directory";
}

/** A {@link NodeTable} that grows. */
export class GrowingNodes implements NodeTable {
  count = 0;
  types: Uint8Array = new Uint8Array(initialRoom);
  modes: Uint16Array = new Uint16Array(initialRoom);
  uids: Uint32Array = new Uint32Array(initialRoom);
  gids: Uint32Array = new Uint32Array(initialRoom);
  seconds: Float64Array = new Float64Array(initialRoom);
  nanos: Uint32Array = new Uint32Array(initialRoom);
  sizes: Float64Array = new Float64Array(initialRoom);
  firsts: Uint32Array = new Uint32Array(initialRoom);
  counts: Uint32Array = new Uint32Array(initialRoom);
  readonly xattrs: Map<number, Xattrs> = new Map<number, Xattrs>();
  readonly opaque: Set<number> = new Set<number>();

  /** @returns the number of a new node that has nothing but its type. */
  add(type: NodeType): number {
    const node = this.count;
    this.count += 1;
    if (node === this.types.length) {
      this.#grow(this.count);
    }
    this.types[node] = nodeTypes[type];
    return node;
  }

  /** Gives `node` what `entry` says that all kinds of files have. */
  describe(node: number, entry: TocEntry): void {
    this.modes[node] = entry.mode;
    this.uids[node] = entry.uid;
    this.gids[node] = entry.gid;
    this.seconds[node] = entry.seconds;
    this.nanos[node] = entry.nanos;
    if (entry.xattrs !== undefined && entry.xattrs.size > 0) {
      this.xattrs.set(node, entry.xattrs);
    } else if (this.xattrs.size > 0) {
      this.xattrs.delete(node);
    }
  }

  #grow(count: number): void {
    this.types = withRoom(this.types, count);
    this.modes = withRoom(this.modes, count);
    this.uids = withRoom(this.uids, count);
    this.gids = withRoom(this.gids, count);
    this.seconds = withRoom(this.seconds, count);
    this.nanos = withRoom(this.nanos, count);
    this.sizes = withRoom(this.sizes, count);
    this.firsts = withRoom(this.firsts, count);
    this.counts = withRoom(this.counts, count);
  }
}

const initialRoom = 1024;
