import type { Limits } from "../limits.ts";
import type { TocEntry } from "./entry.ts";
import { FileChunks } from "./file-chunks.ts";
import { parted } from "./name.ts";
import type { DirectoryNode, FileNode, Growing, GrowingDirectory, Node } from "./node.ts";
import { noPrefetchLandmark, prefetchLandmark, tocName } from "./special-names.ts";
import { type LayerTree, treeError } from "./tree.ts";
import { applyWhiteouts } from "./whiteouts.ts";

const noXattrs: ReadonlyMap<string, Buffer> = new Map();

/**
 * Makes a tree of the entries of a TOC, given one after the other.
 *
 * What it makes is what unpacking the layer would: the last of a name wins, directories merge, a hard link is to what its
 * target was when it came. Directories that nobody mentions are there, mode 0755. What a tar would put through a link, or
 * beneath a file, is refused: then the layer has to be unpacked, to be the same as everywhere.
 */
export class TreeBuilder {
  readonly #root: GrowingDirectory;
  readonly #chunks: FileChunks;
  readonly #directories: Map<string, GrowingDirectory>;
  /** The one that was asked for last: most entries follow another of their directory. */
  #last: { path: string; directory: GrowingDirectory };
  /** Those whose target has not come yet, by their own name. */
  readonly #pendingLinks = new Map<string, string>();
  #nodes = 0;
  #prefetchBytes: number | undefined;

  /** @param contentEnd before this byte of the blob all chunks end. */
  constructor(contentEnd: number, limits: Limits) {
    this.#chunks = new FileChunks(contentEnd, limits);
    this.#root = this.#implicitDirectory();
    this.#directories = new Map([["", this.#root]]);
    this.#last = { path: "", directory: this.#root };
  }

  /** @throws {InvalidArgumentError} if `entry` does not go with those before it. */
  add(entry: TocEntry): void {
    if (entry.type === "chunk") {
      this.#chunks.more(entry);
      return;
    }
    this.#chunks.endFile();
    if (entry.name === "") {
      this.#setRoot(entry);
    } else if (entry.name === prefetchLandmark) {
      this.#prefetchBytes = entry.offset;
    } else if (entry.name === noPrefetchLandmark) {
      this.#prefetchBytes ??= 0;
    } else if (entry.name === tocName) {
      throw treeError(tocName, "is in the layer a second time");
    } else if (entry.type === "hard link") {
      this.#link(entry);
    } else {
      this.#put(entry.name, this.#nodeOf(entry));
    }
  }

  /** To be called last. @throws {InvalidArgumentError} if something is missing. */
  finish(): LayerTree {
    this.#chunks.finish();
    for (const name of this.#pendingLinks.keys()) {
      this.#linkAtLast(name);
    }
    applyWhiteouts(this.#root, () => this.#nextIndex());
    const totalBytes = countLinks(this.#root);
    return { root: this.#root, nodes: this.#nodes, totalBytes, prefetchBytes: this.#prefetchBytes };
  }

  #nextIndex(): number {
    this.#nodes += 1;
    return this.#nodes - 1;
  }

  #implicitDirectory(): GrowingDirectory {
    return {
      type: "directory",
      index: this.#nextIndex(),
      mode: 0o755,
      uid: 0,
      gid: 0,
      modifiedNs: 0n,
      xattrs: noXattrs,
      linkCount: 0,
      children: new Map(),
      isOpaque: false,
    };
  }

  #setRoot(entry: TocEntry): void {
    if (entry.type !== "directory") {
      throw treeError("/", `is a ${entry.type}, want a directory`);
    }
    Object.assign(this.#root, metadataOf(entry));
  }

  // Each with all of its fields in one literal: a spread takes several times as long, and there are many.
  #nodeOf(entry: TocEntry): Node {
    const { type, mode, uid, gid, modifiedNs, xattrs } = entry;
    switch (type) {
      case "directory": {
        const existing = this.#directories.get(entry.name);
        if (existing !== undefined) {
          return Object.assign(existing, metadataOf(entry), { linkCount: 0 });
        }
        const index = this.#nextIndex();
        const children = new Map<string, Node>();
        return { type, index, mode, uid, gid, modifiedNs, xattrs, linkCount: 0, children, isOpaque: false };
      }
      case "file": {
        const { sizeBytes, digest } = entry;
        const index = this.#nextIndex();
        const file: FileNode = {
          type,
          index,
          mode,
          uid,
          gid,
          modifiedNs,
          xattrs,
          linkCount: 0,
          sizeBytes,
          digest,
          chunks: [],
        };
        this.#chunks.start(file, entry);
        return file;
      }
      case "symlink": {
        const index = this.#nextIndex();
        return { type, index, mode, uid, gid, modifiedNs, xattrs, linkCount: 0, target: entry.linkName };
      }
      case "character device":
      case "block device": {
        const { deviceMajor, deviceMinor } = entry;
        const index = this.#nextIndex();
        return {
          type,
          index,
          mode,
          uid,
          gid,
          modifiedNs,
          xattrs,
          linkCount: 0,
          deviceMajor,
          deviceMinor,
        };
      }
      case "fifo":
        return { type, index: this.#nextIndex(), mode, uid, gid, modifiedNs, xattrs, linkCount: 0 };
      case "hard link":
      case "chunk":
        throw new Error(`a ${type} is no node`);
    }
  }

  /** Puts `node` at `path`, in place of what is there. */
  #put(path: string, node: Node): void {
    const { parent, base } = parted(path);
    const { children } = this.#directoryAt(parent);
    const existing = children.get(base);
    if (this.#pendingLinks.size > 0) {
      this.#pendingLinks.delete(path);
    }
    if (existing?.type === "directory" && existing !== node) {
      this.#forgetDirectories(path, existing);
    }
    children.set(base, node);
    if (node.type === "directory") {
      this.#directories.set(path, node as GrowingDirectory);
    }
  }

  #directoryAt(path: string): GrowingDirectory {
    if (path !== this.#last.path) {
      this.#last = { path, directory: this.#directories.get(path) ?? this.#madeDirectory(path) };
    }
    return this.#last.directory;
  }

  #madeDirectory(path: string): GrowingDirectory {
    // By a loop: a path has 2,000 components.
    let directory = this.#root;
    let at = "";
    for (const component of path.split("/")) {
      at = at === "" ? component : `${at}/${component}`;
      const child = directory.children.get(component);
      if (child !== undefined && child.type !== "directory") {
        throw treeError(
          path,
          `is to have files in it, but ${JSON.stringify(at.slice(0, 200))} is a ${child.type}`,
        );
      }
      if (child === undefined) {
        const made = this.#implicitDirectory();
        directory.children.set(component, made);
        this.#directories.set(at, made);
        directory = made;
      } else {
        directory = child as GrowingDirectory;
      }
    }
    return directory;
  }

  #forgetDirectories(path: string, directory: Node): void {
    this.#last = { path: "", directory: this.#root };
    const gone = [{ path, node: directory }];
    for (let next = gone.pop(); next !== undefined; next = gone.pop()) {
      this.#directories.delete(next.path);
      this.#pendingLinks.delete(next.path);
      for (const [name, node] of next.node.type === "directory" ? next.node.children : []) {
        gone.push({ path: `${next.path}/${name}`, node });
      }
    }
  }

  #link(entry: TocEntry): void {
    const target = this.#find(entry.linkName);
    if (target === undefined) {
      // Its place in the order of its directory.
      this.#put(entry.name, { type: "whiteout", index: -1, ...metadataOf(entry), linkCount: 0 });
      this.#pendingLinks.set(entry.name, entry.linkName);
    } else {
      this.#putLink(entry.name, entry.linkName, target);
    }
  }

  #putLink(name: string, linkName: string, target: Node): void {
    if (target.type === "directory") {
      throw treeError(
        name,
        `is a hard link to ${JSON.stringify(linkName.slice(0, 200))}, which is a directory`,
      );
    }
    if (name !== linkName) {
      this.#put(name, target);
    }
  }

  /** Links may be chained. */
  #linkAtLast(name: string): void {
    const chain: string[] = [];
    const seen = new Set<string>();
    let at = name;
    for (let next = this.#pendingLinks.get(at); next !== undefined; next = this.#pendingLinks.get(at)) {
      if (seen.has(at)) {
        throw treeError(name, "is a hard link that leads back to itself");
      }
      seen.add(at);
      chain.push(at);
      at = next;
    }
    const target = this.#find(at);
    if (target === undefined) {
      throw treeError(
        name,
        `is a hard link to ${JSON.stringify(at.slice(0, 200))}, which is not in the layer`,
      );
    }
    for (const link of chain) {
      this.#putLink(link, at, target);
    }
  }

  /** What is at `path`, links whose target is missing left out. */
  #find(path: string): Node | undefined {
    if (path === "" || this.#pendingLinks.has(path)) {
      return path === "" ? this.#root : undefined;
    }
    const { parent, base } = parted(path);
    return this.#directories.get(parent)?.children.get(base);
  }
}

function metadataOf({ mode, uid, gid, modifiedNs, xattrs }: TocEntry) {
  return { mode, uid, gid, modifiedNs, xattrs };
}

/** Counts the names of every node in `root`, and the bytes of its files. */
function countLinks(root: GrowingDirectory): number {
  let totalBytes = 0;
  root.linkCount = 2;
  const pending: DirectoryNode[] = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const child of directory.children.values() as Iterable<Growing<Node>>) {
      if (child.type === "directory") {
        child.linkCount = 2;
        (directory as GrowingDirectory).linkCount += 1;
        pending.push(child);
      } else {
        totalBytes += child.type === "file" && child.linkCount === 0 ? child.sizeBytes : 0;
        child.linkCount += 1;
      }
    }
  }
  return totalBytes;
}
