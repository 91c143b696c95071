import { ResourceExhaustedError } from "@oci-worker/errdefs";
import type { Limits } from "../limits.ts";
import type { TocEntry } from "./entry.ts";
import { FileChunks } from "./file-chunks.ts";
import { NameTable, none, pending } from "./name-table.ts";
import { GrowingNodes, type NodeType, nodeTypes, typeOf } from "./node-table.ts";
import type { PathBytes } from "./path-bytes.ts";
import { noPrefetchLandmark, prefetchLandmark, tocName } from "./special-names.ts";
import { type LayerTree, treeError, treeOf } from "./tree.ts";
import { applyWhiteouts, isWhiteout } from "./whiteouts.ts";

const root = 0;
const slash = 0x2f;

/** Files at the top of a layer that are not of it, or say something of it. */
const specialNames: readonly Buffer[] = [prefetchLandmark, noPrefetchLandmark, tocName].map((name) =>
  Buffer.from(name),
);

/**
 * Makes a tree of the entries of a TOC, given one after the other.
 *
 * What it makes is what unpacking the layer would: the last of a name wins, directories merge, a hard link is to what its
 * target was when it came. Directories that nobody mentions are there, mode 0755. What a tar would put through a link, or
 * beneath a file, is refused: then the layer has to be unpacked, to be the same as everywhere.
 */
export class TreeBuilder {
  readonly #nodes = new GrowingNodes();
  readonly #names = new NameTable();
  readonly #chunks: FileChunks;
  readonly #maxNodes: number;
  /** Paths of the targets of links that have not come yet, by the names of the links. */
  readonly #pendingLinks = new Map<number, PathBytes>();
  /** Names that begin as those of whiteouts. */
  readonly #whiteouts: number[] = [];
  /** The directory that was asked for last, and its path: most entries follow another of their directory. */
  #last = root;
  #lastPath: Buffer = Buffer.alloc(0);
  /** The file whose entry came last. */
  #lastFile = root;
  #prefetchBytes: number | undefined;

  /** @param contentEnd before this byte of the blob all chunks end. */
  constructor(contentEnd: number, limits: Limits) {
    this.#chunks = new FileChunks(contentEnd, limits);
    this.#maxNodes = limits.maxEntries + 1;
    this.#implicitDirectory();
  }

  /** @throws {InvalidArgumentError} if `entry`, which is good during this call only, does not go with those before it. */
  add(entry: TocEntry): void {
    if (entry.type === "chunk") {
      this.#addChunk(entry);
      return;
    }
    this.#chunks.endFile();
    const { name } = entry;
    if (name.start === name.end) {
      this.#setRoot(entry);
    } else if (name.baseStart === name.start && isSpecial(name)) {
      this.#addSpecial(entry);
    } else if (entry.type === "hard link") {
      this.#link(entry);
    } else {
      this.#put(name, this.#nodeOf(entry, entry.type));
    }
  }

  /** To be called last. @throws {InvalidArgumentError} if something is missing. */
  finish(): LayerTree {
    const chunks = this.#chunks.finish();
    for (const name of this.#pendingLinks.keys()) {
      this.#linkAtLast(name);
    }
    applyWhiteouts(this.#whiteouts, this.#names, this.#nodes);
    return treeOf(this.#nodes, this.#names, chunks, this.#prefetchBytes);
  }

  #addChunk(entry: TocEntry): void {
    this.#chunks.more(entry);
    const { firsts, counts } = this.#nodes;
    counts[this.#lastFile] = this.#chunks.count - (firsts[this.#lastFile] ?? 0);
  }

  #addSpecial(entry: TocEntry): void {
    const name = entry.name.toString();
    if (name === tocName) {
      throw treeError(tocName, "is in the layer a second time");
    }
    this.#prefetchBytes = name === prefetchLandmark ? entry.offset : (this.#prefetchBytes ?? 0);
  }

  /** One that nobody mentions: a single name may have two thousand of them. */
  #implicitDirectory(): number {
    if (this.#nodes.count >= this.#maxNodes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${this.#maxNodes - 1} files and directories, the most that is allowed`,
      );
    }
    const directory = this.#nodes.add("directory");
    this.#nodes.modes[directory] = 0o755;
    return directory;
  }

  #setRoot(entry: TocEntry): void {
    if (entry.type !== "directory") {
      throw treeError("/", `is a ${entry.type}, want a directory`);
    }
    this.#nodes.describe(root, entry);
  }

  #nodeOf(entry: TocEntry, type: Exclude<NodeType, "whiteout">): number {
    const existing = type === "directory" ? this.#existingDirectory(entry.name) : none;
    const nodes = this.#nodes;
    const node = existing === none ? nodes.add(type) : existing;
    nodes.describe(node, entry);
    if (type === "file") {
      nodes.sizes[node] = entry.sizeBytes;
      nodes.firsts[node] = this.#chunks.count;
      this.#chunks.start(entry);
      nodes.counts[node] = this.#chunks.count - (nodes.firsts[node] ?? 0);
      this.#lastFile = node;
    } else if (type === "symlink") {
      nodes.firsts[node] = this.#names.addText(entry.target, 0, entry.target.length);
      nodes.counts[node] = entry.target.length;
    } else if (type === "character device" || type === "block device") {
      nodes.firsts[node] = entry.deviceMajor;
      nodes.counts[node] = entry.deviceMinor;
    }
    return node;
  }

  #existingDirectory(path: PathBytes): number {
    const name = this.#findName(path);
    const child = name === none ? none : (this.#names.children[name] ?? none);
    return child >= 0 && this.#isDirectory(child) ? child : none;
  }

  #isDirectory(node: number): boolean {
    return this.#nodes.types[node] === nodeTypes.directory;
  }

  /** Puts `node`, or {@link pending}, at `path`, in place of what is there. @returns the number of the name. */
  #put(path: PathBytes, node: number): number {
    const names = this.#names;
    const parent = this.#directoryOf(path);
    let name = names.find(parent, path.bytes, path.baseStart, path.end);
    if (name === none) {
      name = names.add(parent, path.bytes, path.baseStart, path.end, node);
      if (isWhiteout(names, name)) {
        this.#whiteouts.push(name);
      }
    } else if (names.children[name] !== node) {
      this.#pendingLinks.delete(name);
      names.children[name] = node;
      // It may have been a directory.
      this.#forgetLast();
    }
    if (node >= 0 && this.#isDirectory(node)) {
      this.#nodes.firsts[node] = name;
    }
    return name;
  }

  /** The directory that `path`, which is not the root's, is in; made if it is not there. */
  #directoryOf(path: PathBytes): number {
    if (path.baseStart === path.start) {
      return root;
    }
    const { bytes, start } = path;
    const end = path.baseStart - 1;
    if (!this.#isLast(bytes, start, end)) {
      this.#last = this.#walk(bytes, start, end, true);
      this.#lastPath = Buffer.from(bytes.subarray(start, end));
    }
    return this.#last;
  }

  #isLast(bytes: Buffer, start: number, end: number): boolean {
    const last = this.#lastPath;
    if (last.length !== end - start) {
      return false;
    }
    for (let at = 0; at < last.length; at += 1) {
      if (last[at] !== bytes[start + at]) {
        return false;
      }
    }
    return true;
  }

  #forgetLast(): void {
    this.#last = root;
    this.#lastPath = Buffer.alloc(0);
  }

  /**
   * Goes down the path `start` to `end` of `bytes`.
   *
   * @param isMaking makes the directories that are not there.
   * @returns {@link none} if there is none, and none was to be made.
   */
  #walk(bytes: Buffer, start: number, end: number, isMaking: boolean): number {
    const names = this.#names;
    let directory = root;
    for (let from = start; from < end; ) {
      let to = from;
      while (to < end && bytes[to] !== slash) {
        to += 1;
      }
      const name = names.find(directory, bytes, from, to);
      let child = name === none ? none : (names.children[name] ?? none);
      if (name !== none && (child < 0 || !this.#isDirectory(child))) {
        if (!isMaking) {
          return none;
        }
        const what = child < 0 ? "hard link" : typeOf(this.#nodes, child);
        const at = JSON.stringify(bytes.toString("utf8", start, to).slice(0, 200));
        throw treeError(bytes.toString("utf8", start, end), `is to have files in it, but ${at} is a ${what}`);
      }
      if (name === none) {
        if (!isMaking) {
          return none;
        }
        child = this.#implicitDirectory();
        const made = names.add(directory, bytes, from, to, child);
        this.#nodes.firsts[child] = made;
        if (isWhiteout(names, made)) {
          this.#whiteouts.push(made);
        }
      }
      directory = child;
      from = to + 1;
    }
    return directory;
  }

  #link(entry: TocEntry): void {
    const target = this.#findName(entry.linkName);
    const child = target === none ? none : (this.#names.children[target] ?? none);
    if (child < 0) {
      // Its place in the order of its directory.
      const name = this.#put(entry.name, pending);
      this.#pendingLinks.set(name, entry.linkName.copy());
      return;
    }
    if (this.#isDirectory(child)) {
      throw linkToDirectory(entry.name.toString(), entry.linkName);
    }
    this.#put(entry.name, child);
  }

  /** Links may be chained. */
  #linkAtLast(name: number): void {
    const { children } = this.#names;
    if (!this.#isThere(name)) {
      return;
    }
    const chain: number[] = [];
    const seen = new Set<number>();
    let at = name;
    let path: PathBytes | undefined;
    for (let next = this.#pendingLinks.get(at); next !== undefined; next = this.#pendingLinks.get(at)) {
      if (seen.has(at)) {
        throw treeError(this.#pathOf(name), "is a hard link that leads back to itself");
      }
      seen.add(at);
      chain.push(at);
      path = next;
      at = this.#findName(next);
      if (at === none) {
        break;
      }
    }
    const target = at === none ? none : (children[at] ?? none);
    if (path === undefined) {
      // Another chain had it in it.
      return;
    }
    if (target < 0) {
      const shown = JSON.stringify(path.toString().slice(0, 200));
      throw treeError(this.#pathOf(name), `is a hard link to ${shown}, which is not in the layer`);
    }
    if (this.#isDirectory(target)) {
      throw linkToDirectory(this.#pathOf(name), path);
    }
    for (const link of chain) {
      children[link] = target;
      this.#pendingLinks.delete(link);
    }
  }

  /** The name at `path`; {@link none} if there is none. */
  #findName(path: PathBytes): number {
    const { bytes, start, end, baseStart } = path;
    if (start === end) {
      return root;
    }
    let parent: number = root;
    if (baseStart > start) {
      parent = this.#isLast(bytes, start, baseStart - 1)
        ? this.#last
        : this.#walk(bytes, start, baseStart - 1, false);
    }
    return parent === none ? none : this.#names.find(parent, bytes, baseStart, end);
  }

  /** Whether no directory above `name` has been replaced. */
  #isThere(name: number): boolean {
    const { parents, children } = this.#names;
    for (let directory = parents[name] ?? root; directory !== root; ) {
      const own = this.#nodes.firsts[directory] ?? 0;
      if (children[own] !== directory) {
        return false;
      }
      directory = parents[own] ?? root;
    }
    return true;
  }

  #pathOf(name: number): string {
    const { parents, starts, lengths, texts } = this.#names;
    const components: string[] = [];
    for (let at = name; at !== root; at = this.#nodes.firsts[parents[at] ?? root] ?? root) {
      const start = starts[at] ?? 0;
      components.unshift(texts.toString("utf8", start, start + (lengths[at] ?? 0)));
    }
    return components.join("/");
  }
}

function isSpecial({ bytes, start, end }: PathBytes): boolean {
  return specialNames.some((name) => name.length === end - start && name.compare(bytes, start, end) === 0);
}

function linkToDirectory(name: string, target: PathBytes) {
  const shown = JSON.stringify(target.toString().slice(0, 200));
  return treeError(name, `is a hard link to ${shown}, which is a directory`);
}
