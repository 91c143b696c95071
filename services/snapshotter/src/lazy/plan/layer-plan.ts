import { storableXattrs } from "@oci-worker/erofs/image";
import type { Attributes, Directory, Node } from "@oci-worker/erofs/node";
import type { DirectoryNode, Node as LayerNode } from "@oci-worker/estargz/node";
import type { LayerTree } from "@oci-worker/estargz/tree";
import { countableNs, reservedFor } from "@oci-worker/layer/metadata-rules";
import { type PlacedChunk, placeContent } from "./placement.ts";

/** Where overlayfs keeps its marks: `user` for mounts of users who may not write the other (overlayfs, `userxattr`). */
export type XattrNamespace = "trusted" | "user";

/** A layer as it will be mounted: a tree for an image, and what its data device has in it. */
export interface LayerPlan {
  readonly root: Directory;
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

const noXattrs: ReadonlyMap<string, Uint8Array> = new Map();

/**
 * Plans how a layer is shown: with the metadata that unpacking it would give its files, and its whiteouts as overlayfs
 * wants them. Equal layers are planned equally, whenever: what one process has cached on the data device is good for
 * the next.
 */
export function planLayer(
  tree: LayerTree,
  { xattrNamespace }: { readonly xattrNamespace: XattrNamespace },
): LayerPlan {
  const { blockOf, dataBlocks, chunks } = placeContent(tree);
  const opaqueName = `${xattrNamespace}.overlay.opaque`;
  const droppedXattrs = new Map<string, number>();
  /** What has several names is planned once. */
  const planned = new Map<LayerNode, Node>();

  const xattrsOf = (node: LayerNode): Attributes["xattrs"] => {
    if (node.xattrs.size === 0 && !isOpaque(node)) {
      return noXattrs;
    }
    const { kept, left } = marked(node, opaqueName);
    for (const name of left) {
      droppedXattrs.set(name, (droppedXattrs.get(name) ?? 0) + 1);
    }
    return kept;
  };

  const plan = (node: LayerNode): Node => {
    if (node.linkCount <= 1 || node.type === "directory") {
      return planFresh(node);
    }
    const known = planned.get(node);
    if (known !== undefined) {
      return known;
    }
    const made = planFresh(node);
    planned.set(node, made);
    return made;
  };

  // As deep as a path has components, some 2,000 at most.
  const planEntries = ({ children }: DirectoryNode): Map<string, Node> => {
    const entries = new Map<string, Node>();
    for (const [name, child] of children) {
      entries.set(name, plan(child));
    }
    return entries;
  };

  // Each with all of its fields in one literal: a spread takes several times as long, and there are many.
  const planFresh = (node: LayerNode): Node => {
    const { mode: permissions, uid, gid } = node;
    const modifiedNs = countableNs(node.modifiedNs);
    const xattrs = xattrsOf(node);
    switch (node.type) {
      case "directory":
        return { permissions, uid, gid, modifiedNs, xattrs, kind: "directory", entries: planEntries(node) };
      case "file": {
        const { sizeBytes } = node;
        const dataBlock = sizeBytes === 0 ? 0 : blockOf(node);
        return { permissions, uid, gid, modifiedNs, xattrs, kind: "file", sizeBytes, dataBlock };
      }
      case "symlink": {
        // The permissions of a link mean nothing, and Linux gives all of them.
        const { target } = node;
        return { permissions: 0o777, uid, gid, modifiedNs, xattrs, kind: "symbolic-link", target };
      }
      case "character device":
      case "block device": {
        const kind = node.type === "character device" ? "character-device" : "block-device";
        const { deviceMajor: major, deviceMinor: minor } = node;
        return { permissions, uid, gid, modifiedNs, xattrs, kind, major, minor };
      }
      case "fifo":
        return { permissions, uid, gid, modifiedNs, xattrs, kind: "fifo" };
      case "whiteout":
        return { permissions, uid, gid, modifiedNs, xattrs, kind: "character-device", major: 0, minor: 0 };
    }
  };

  const root = planFresh(tree.root);
  if (root.kind !== "directory") {
    throw new Error("the root is a directory");
  }
  return { root, dataBlocks, chunks, prefetchBytes: tree.prefetchBytes, droppedXattrs };
}

function isOpaque(node: LayerNode): boolean {
  return node.type === "directory" && node.isOpaque;
}

/** The mark comes first: it must have a place, whatever else there is. */
function marked(node: LayerNode, opaqueName: string) {
  const allowed = new Map<string, Uint8Array>(isOpaque(node) ? [[opaqueName, opaqueMark]] : []);
  const reserved: string[] = [];
  for (const [name, value] of node.xattrs) {
    if (reservedFor(name) === undefined) {
      allowed.set(name, value);
    } else {
      reserved.push(name);
    }
  }
  const { kept, left } = storableXattrs(allowed);
  return { kept, left: [...reserved, ...left] };
}
