import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ChunkTable, chunkAt } from "./chunk-table.ts";
import type { NameTable } from "./name-table.ts";
import type { DirectoryNode, Node } from "./node.ts";
import { type NodeTable, typeOf } from "./node-table.ts";
import type { Xattrs } from "./xattrs.ts";

/**
 * The files of a layer, as its TOC has them, in columns: a layer has some ten thousand, and objects for all of them take
 * more time to make than to read the TOC. {@link nodeAt} and {@link walk} show single ones.
 */
export interface LayerTree {
  readonly nodes: NodeTable;
  /** For each node, and one more, the first of its {@link names}: those of a directory are next to each other. */
  readonly firstNames: Uint32Array;
  readonly names: {
    /** The node that has the name. */
    readonly children: Uint32Array;
    /** Where in {@link texts} it begins, and how many bytes it has. */
    readonly starts: Uint32Array;
    readonly lengths: Uint8Array;
  };
  /** UTF-8. */
  readonly texts: Buffer;
  readonly chunks: ChunkTable;
  /**
   * The bytes of the blob, from 0, that whoever made the image wants to be there before a container starts. 0 if none;
   * undefined if nobody has said.
   */
  readonly prefetchBytes: number | undefined;
}

/** Puts the names of each directory next to each other, in the order in which they came. */
export function treeOf(
  nodes: NodeTable,
  { count, parents, children, starts, lengths, texts, textBytes }: NameTable,
  chunks: ChunkTable,
  prefetchBytes: number | undefined,
): LayerTree {
  const firstNames = new Uint32Array(nodes.count + 1);
  // Number 0 is the root's, which is in no directory.
  for (let name = 1; name < count; name += 1) {
    if ((children[name] ?? 0) >= 0) {
      const after = (parents[name] ?? 0) + 1;
      firstNames[after] = (firstNames[after] ?? 0) + 1;
    }
  }
  for (let node = 0; node < nodes.count; node += 1) {
    firstNames[node + 1] = (firstNames[node + 1] ?? 0) + (firstNames[node] ?? 0);
  }
  const total = firstNames[nodes.count] ?? 0;
  const next = firstNames.slice();
  const names = {
    children: new Uint32Array(total),
    starts: new Uint32Array(total),
    lengths: new Uint8Array(total),
  };
  for (let name = 1; name < count; name += 1) {
    const child = children[name] ?? 0;
    if (child >= 0) {
      const parent = parents[name] ?? 0;
      const place = next[parent] ?? 0;
      next[parent] = place + 1;
      names.children[place] = child;
      names.starts[place] = starts[name] ?? 0;
      names.lengths[place] = lengths[name] ?? 0;
    }
  }
  return { nodes, firstNames, names, texts: texts.subarray(0, textBytes), chunks, prefetchBytes };
}

/**
 * The node at `path`, relative to the root, "/" in front or not. Links are not followed. What has several names is the same
 * object under each.
 *
 * @returns undefined if there is none.
 */
export function nodeAt(tree: LayerTree, path: string): Node | undefined {
  let node: Node | undefined = shown(tree, 0);
  for (const name of path.split("/").filter((component) => component !== "")) {
    node = node?.type === "directory" ? node.children.get(name) : undefined;
  }
  return node;
}

/** Every node with every path that it has, directories before what is in them, the root ("") first. */
export function* walk(tree: LayerTree): Generator<{ path: string; node: Node }> {
  const pending: { path: string; node: Node }[] = [{ path: "", node: shown(tree, 0) }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    yield next;
    const { path, node } = next;
    if (node.type === "directory") {
      const children = [...node.children].map(([name, child]) => ({
        path: path === "" ? name : `${path}/${name}`,
        node: child,
      }));
      pending.push(...children.reverse());
    }
  }
}

/** An error about what is at `path` in the tree. */
export function treeError(path: string, reason: string): InvalidArgumentError {
  return new InvalidArgumentError(`Cannot read TOC: ${JSON.stringify(path.slice(0, 200))} ${reason}`);
}

/** What has been shown of each tree. */
const shownNodes = new WeakMap<LayerTree, Map<number, Node>>();

function shown(tree: LayerTree, index: number): Node {
  let known = shownNodes.get(tree);
  if (known === undefined) {
    known = new Map();
    shownNodes.set(tree, known);
  }
  const node = known.get(index) ?? show(tree, index);
  known.set(index, node);
  return node;
}

const noXattrs: Xattrs = new Map();

function show(tree: LayerTree, index: number): Node {
  const { nodes, texts } = tree;
  const first = nodes.firsts[index] ?? 0;
  const count = nodes.counts[index] ?? 0;
  const metadata = {
    index,
    mode: nodes.modes[index] ?? 0,
    uid: nodes.uids[index] ?? 0,
    gid: nodes.gids[index] ?? 0,
    modifiedNs: BigInt(nodes.seconds[index] ?? 0) * 1_000_000_000n + BigInt(nodes.nanos[index] ?? 0),
    xattrs: nodes.xattrs.get(index) ?? noXattrs,
  };
  const type = typeOf(nodes, index);
  switch (type) {
    case "directory":
      return { ...metadata, type, isOpaque: nodes.opaque.has(index), children: childrenOf(tree, index) };
    case "file": {
      const chunks = Array.from({ length: count }, (_, chunk) => chunkAt(tree.chunks, first + chunk));
      return { ...metadata, type, sizeBytes: nodes.sizes[index] ?? 0, chunks };
    }
    case "symlink":
      return { ...metadata, type, target: texts.toString("utf8", first, first + count) };
    case "character device":
    case "block device":
      return { ...metadata, type, deviceMajor: first, deviceMinor: count };
    case "fifo":
    case "whiteout":
      return { ...metadata, type };
  }
}

function childrenOf(tree: LayerTree, directory: number): DirectoryNode["children"] {
  const { firstNames, names, texts } = tree;
  const children = new Map<string, Node>();
  for (let at = firstNames[directory] ?? 0; at < (firstNames[directory + 1] ?? 0); at += 1) {
    const start = names.starts[at] ?? 0;
    const name = texts.toString("utf8", start, start + (names.lengths[at] ?? 0));
    children.set(name, shown(tree, names.children[at] ?? 0));
  }
  return children;
}
