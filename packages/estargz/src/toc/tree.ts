import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { DirectoryNode, Node } from "./node.ts";

/** The files of a layer, as its TOC has them. */
export interface LayerTree {
  readonly root: DirectoryNode;
  /** How many different nodes there are: each has an index below it. */
  readonly nodes: number;
  /** Of all files, each counted once. */
  readonly totalBytes: number;
  /**
   * The bytes of the blob, from 0, that whoever made the image wants to be there before a container starts. 0 if none;
   * undefined if nobody has said.
   */
  readonly prefetchBytes: number | undefined;
}

/**
 * The node at `path`, relative to the root, "/" in front or not. Links are not followed.
 *
 * @returns undefined if there is none.
 */
export function nodeAt(tree: LayerTree, path: string): Node | undefined {
  let node: Node | undefined = tree.root;
  for (const name of path.split("/").filter((component) => component !== "")) {
    node = node?.type === "directory" ? node.children.get(name) : undefined;
  }
  return node;
}

/** Every node with every path that it has, directories before what is in them, the root ("") first. */
export function* walk(tree: LayerTree): Generator<{ path: string; node: Node }> {
  const pending: { path: string; node: Node }[] = [{ path: "", node: tree.root }];
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
