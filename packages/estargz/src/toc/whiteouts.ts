import type { GrowingDirectory, Node } from "./node.ts";

/** Names of files that say what is gone (OCI image-spec, layer.md, "Whiteouts"). */
const [whiteoutPrefix, opaqueName, reservedPrefix] = [".wh.", ".wh..wh..opq", ".wh..wh."];

/**
 * Turns the files whose names begin with `.wh.` into what they mean: nodes that hide, and opaque directories.
 *
 * A file that the same layer has is not hidden by it, as with stargz-snapshotter; a directory then is opaque, which
 * there it is not. Other reserved names are left out.
 *
 * @param nextIndex for nodes that are new.
 */
export function applyWhiteouts(root: GrowingDirectory, nextIndex: () => number): void {
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const { children } = directory;
    // What is added meanwhile are nodes that hide: neither of the two.
    for (const [name, node] of children) {
      if (name.startsWith(whiteoutPrefix)) {
        children.delete(name);
        if (name === opaqueName) {
          directory.isOpaque = true;
        } else if (!name.startsWith(reservedPrefix) && name !== whiteoutPrefix) {
          hide(children, name.slice(whiteoutPrefix.length), node, nextIndex);
        }
      } else if (node.type === "directory") {
        pending.push(node as GrowingDirectory);
      }
    }
  }
}

function hide(children: Map<string, Node>, name: string, from: Node, nextIndex: () => number): void {
  const real = children.get(name);
  if (real?.type === "directory") {
    (real as GrowingDirectory).isOpaque = true;
  } else if (real === undefined) {
    const { modifiedNs } = from;
    children.set(name, {
      type: "whiteout",
      index: nextIndex(),
      mode: 0,
      uid: 0,
      gid: 0,
      modifiedNs,
      xattrs: new Map(),
      linkCount: 0,
    });
  }
}
