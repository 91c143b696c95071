import { encodeDevice, type FileTable, storableXattrs, typeBits } from "@oci-worker/erofs/image";
import { type NodeTable, nodeTypes } from "@oci-worker/estargz/node-table";
import type { LayerTree } from "@oci-worker/estargz/tree";
import { reservedFor } from "@oci-worker/layer/metadata-rules";
import { type PlacedChunk, placeContent } from "./placement.ts";

/** Where overlayfs keeps its marks: `user` for mounts of users who may not write the other (overlayfs, `userxattr`). */
export type XattrNamespace = "trusted" | "user";

/** A layer as it will be mounted: files for an image, and what its data device has in it. */
export interface LayerPlan {
  readonly files: FileTable;
  /** Size of the data device in blocks of 4 KiB; 0 if no file has content. */
  readonly dataBlocks: number;
  /** In the order of the device. What none of them covers is zeros. */
  readonly chunks: readonly PlacedChunk[];
  /** As the layer has it: bytes of the blob, from 0, to fetch before anybody asks. */
  readonly prefetchBytes: number | undefined;
  /** Attributes that there is no place for, with the number of files that lose them. */
  readonly droppedXattrs: ReadonlyMap<string, number>;
}

/** What a directory that hides those beneath it is marked with (Linux, Documentation/filesystems/overlayfs.rst). */
const opaqueMark = Buffer.from("y");

/** What each type of a node is as a file; a whiteout is the character device 0:0. */
const typeModes = new Uint16Array(Object.keys(nodeTypes).length);
typeModes[nodeTypes.directory] = typeBits.directory;
typeModes[nodeTypes.file] = typeBits.file;
typeModes[nodeTypes.symlink] = typeBits["symbolic-link"];
typeModes[nodeTypes["character device"]] = typeBits["character-device"];
typeModes[nodeTypes["block device"]] = typeBits["block-device"];
typeModes[nodeTypes.fifo] = typeBits.fifo;
typeModes[nodeTypes.whiteout] = typeBits["character-device"];

/** The latest time that the kernel counts in nanoseconds (ktime_t): 2^63 - 1 of them. */
const [maxSeconds, maxNanos] = [9_223_372_036, 854_775_807];

/**
 * Plans how a layer is shown: with the metadata that unpacking it would give its files, and its whiteouts as overlayfs
 * wants them. Equal layers are planned equally, whenever: what one process has cached on the data device is good for
 * the next.
 */
export function planLayer(
  tree: LayerTree,
  { xattrNamespace }: { readonly xattrNamespace: XattrNamespace },
): LayerPlan {
  const { nodes, names, firstNames, texts, prefetchBytes } = tree;
  const { count } = nodes;
  const { blocks, dataBlocks, chunks, isReached } = placeContent(tree);
  const modes = new Uint16Array(count);
  const sizes = new Float64Array(count);
  // What is a place already stays where it is.
  const starts = blocks;
  const seconds = nodes.seconds.slice(0, count);
  const nanos = nodes.nanos.slice(0, count);
  for (let node = 0; node < count; node += 1) {
    const type = nodes.types[node] ?? 0;
    modes[node] = (typeModes[type] ?? 0) | (nodes.modes[node] ?? 0);
    const second = seconds[node] ?? 0;
    if (second < 0 || second > maxSeconds || (second === maxSeconds && (nanos[node] ?? 0) > maxNanos)) {
      // As containerd gives it to what it unpacks: 1970 for what the kernel cannot count.
      seconds[node] = 0;
      nanos[node] = 0;
    }
    if (type === nodeTypes.file) {
      sizes[node] = nodes.sizes[node] ?? 0;
    } else if (type === nodeTypes.symlink) {
      // The permissions of a link mean nothing, and Linux gives all of them.
      modes[node] = typeBits["symbolic-link"] | 0o777;
      sizes[node] = nodes.counts[node] ?? 0;
      starts[node] = nodes.firsts[node] ?? 0;
    } else if (type === nodeTypes["character device"] || type === nodeTypes["block device"]) {
      starts[node] = encodeDevice(nodes.firsts[node] ?? 0, nodes.counts[node] ?? 0);
    }
  }
  const { xattrs, dropped } = planXattrs(nodes, isReached, `${xattrNamespace}.overlay.opaque`);
  const files: FileTable = {
    modes,
    uids: nodes.uids.subarray(0, count),
    gids: nodes.gids.subarray(0, count),
    seconds,
    nanos,
    sizes,
    starts,
    xattrs,
    firstNames,
    nameFiles: names.children,
    nameStarts: names.starts,
    nameLengths: names.lengths,
    texts,
  };
  return { files, dataBlocks, chunks, prefetchBytes, droppedXattrs: dropped };
}

/** The attributes that the nodes keep, and how many lose which. */
function planXattrs(nodes: NodeTable, isReached: Uint8Array, opaqueName: string) {
  const xattrs = new Map<number, ReadonlyMap<string, Uint8Array>>();
  const dropped = new Map<string, number>();
  for (const node of new Set([...nodes.xattrs.keys(), ...nodes.opaque])) {
    if (isReached[node] === 0) {
      continue;
    }
    const { kept, left } = marked(nodes, node, opaqueName);
    for (const name of left) {
      dropped.set(name, (dropped.get(name) ?? 0) + 1);
    }
    if (kept.size > 0) {
      xattrs.set(node, kept);
    }
  }
  return { xattrs, dropped };
}

/** The mark comes first: it must have a place, whatever else there is. */
function marked(nodes: NodeTable, node: number, opaqueName: string) {
  const allowed = new Map<string, Uint8Array>(nodes.opaque.has(node) ? [[opaqueName, opaqueMark]] : []);
  const reserved: string[] = [];
  for (const [name, value] of nodes.xattrs.get(node) ?? []) {
    if (reservedFor(name) === undefined) {
      allowed.set(name, value);
    } else {
      reserved.push(name);
    }
  }
  const { kept, left } = storableXattrs(allowed);
  return { kept, left: [...reserved, ...left] };
}
