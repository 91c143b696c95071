import type { Directory, Node } from "./node.ts";

/**
 * The files of a tree in columns: number 0 is the root. Whoever has ten thousand of them need not make objects of them;
 * {@link tableOf} makes one of a tree of objects.
 */
export interface FileTable {
  /** Type and permissions of each, as st_mode. */
  readonly modes: Uint16Array;
  readonly uids: Uint32Array;
  readonly gids: Uint32Array;
  /** Time of the last change since 1970; the nanoseconds count up from there. */
  readonly seconds: Float64Array;
  readonly nanos: Uint32Array;
  /** Bytes of a regular file, or of the target of a symbolic link. */
  readonly sizes: Float64Array;
  /**
   * Of a regular file where its content begins on the data device, in blocks; of a symbolic link where its target begins in
   * {@link texts}; of a device its number, as {@link encodeDevice} makes it.
   */
  readonly starts: Float64Array;
  /** Extended attributes of those that have some. */
  readonly xattrs: ReadonlyMap<number, ReadonlyMap<string, Uint8Array>>;
  /** For each file, and one more, the first of its names: those in a directory are next to each other, in any order. */
  readonly firstNames: Uint32Array;
  /** Of each name the file that has it, where it begins in {@link texts}, and how many bytes it has. */
  readonly nameFiles: Uint32Array;
  readonly nameStarts: Uint32Array;
  readonly nameLengths: Uint8Array | Uint32Array;
  readonly texts: Buffer;
}

/** File types of st_mode (inode(7)). */
export const typeBits = {
  "block-device": 0o060000,
  "character-device": 0o020000,
  directory: 0o040000,
  fifo: 0o010000,
  file: 0o100000,
  socket: 0o140000,
  "symbolic-link": 0o120000,
} as const satisfies Record<Node["kind"], number>;

export const typeMask = 0o170000;

const nanosPerSecond = 1_000_000_000n;

/** As Linux stores device numbers on disk (include/linux/kdev_t.h, new_encode_dev): 12 bits and 20. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The files of a tree, each once however many names it has. */
export function tableOf(root: Directory): FileTable {
  const numbers = new Map<Node, number>([[root, 0]]);
  const nodes: Node[] = [root];
  const parts: Buffer[] = [];
  let textBytes = 0;
  const addText = (text: string): { start: number; length: number } => {
    const bytes = Buffer.from(text);
    parts.push(bytes);
    textBytes += bytes.length;
    return { start: textBytes - bytes.length, length: bytes.length };
  };
  const firstNames: number[] = [];
  const names: { file: number; start: number; length: number }[] = [];
  // Grows while it is gone through.
  for (const node of nodes) {
    firstNames.push(names.length);
    for (const [name, child] of node.kind === "directory" ? node.entries : []) {
      let file = numbers.get(child);
      if (file === undefined) {
        file = nodes.length;
        numbers.set(child, file);
        nodes.push(child);
      }
      names.push({ file, ...addText(name) });
    }
  }
  firstNames.push(names.length);
  const sizes = new Float64Array(nodes.length);
  const starts = new Float64Array(nodes.length);
  for (const [file, node] of nodes.entries()) {
    if (node.kind === "file") {
      [sizes[file], starts[file]] = [node.sizeBytes, node.dataBlock];
    } else if (node.kind === "symbolic-link") {
      const { start, length } = addText(node.target);
      [sizes[file], starts[file]] = [length, start];
    } else if ("major" in node) {
      starts[file] = encodeDevice(node.major, node.minor);
    }
  }
  const times = nodes.map(
    ({ modifiedNs }) => ((modifiedNs % nanosPerSecond) + nanosPerSecond) % nanosPerSecond,
  );
  return {
    modes: Uint16Array.from(nodes, ({ kind, permissions }) => typeBits[kind] | permissions),
    uids: Uint32Array.from(nodes, ({ uid }) => uid),
    gids: Uint32Array.from(nodes, ({ gid }) => gid),
    // Those of times before 1970 round down, so that their nanoseconds stay positive.
    seconds: Float64Array.from(nodes, ({ modifiedNs }, file) =>
      Number((modifiedNs - (times[file] ?? 0n)) / nanosPerSecond),
    ),
    nanos: Uint32Array.from(times, Number),
    sizes,
    starts,
    xattrs: new Map(nodes.flatMap(({ xattrs }, file) => (xattrs.size > 0 ? [[file, xattrs]] : []))),
    firstNames: Uint32Array.from(firstNames),
    nameFiles: Uint32Array.from(names, ({ file }) => file),
    nameStarts: Uint32Array.from(names, ({ start }) => start),
    nameLengths: Uint32Array.from(names, ({ length }) => length),
    texts: Buffer.concat(parts),
  };
}
