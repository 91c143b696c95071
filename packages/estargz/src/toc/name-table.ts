import { randomInt } from "node:crypto";
import { withRoom } from "./columns.ts";

/** No name, and no node. */
export const none = -1;

/** Whose node is yet to be found: a hard link to what has not come. */
export const pending = -2;

const initialRoom = 1024;

/** Whoever makes a layer must not be able to choose names that all fall into one place. */
const seed = randomInt(2 ** 31);

/**
 * The names in the directories of a layer, numbered as they come. Number 0 is the root's, which is empty.
 *
 * A name is never taken out: it may have {@link none} for its node.
 */
export class NameTable {
  count = 0;
  /** Nodes of the directories that they are in. */
  parents: Uint32Array = new Uint32Array(initialRoom);
  /** Nodes that they are of. */
  children: Int32Array = new Int32Array(initialRoom);
  /** Where in {@link texts} each begins, and how many bytes it has. */
  starts: Uint32Array = new Uint32Array(initialRoom);
  lengths: Uint8Array = new Uint8Array(initialRoom);
  texts: Buffer = Buffer.allocUnsafe(16 * initialRoom);
  textBytes = 0;
  #hashes = new Uint32Array(initialRoom);
  /** Open addressing: a number of a name more one, or 0, at a place that its hash says or behind it. */
  #places = new Uint32Array(2 * initialRoom);

  constructor() {
    this.add(0, this.texts, 0, 0, 0);
  }

  /** Finds the name of the bytes `start` to `end` of `bytes` in directory `parent`. @returns {@link none} if there is none. */
  find(parent: number, bytes: Buffer, start: number, end: number): number {
    const hash = hashOf(parent, bytes, start, end);
    const places = this.#places;
    const mask = places.length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const name = (places[at] ?? 0) - 1;
      if (name === none) {
        return none;
      }
      if (this.#hashes[name] === hash && this.#isSame(name, parent, bytes, start, end)) {
        return name;
      }
    }
  }

  /** Adds a name that is not there. @returns its number. */
  add(parent: number, bytes: Buffer, start: number, end: number, child: number): number {
    const name = this.count;
    this.count += 1;
    if (name === this.parents.length) {
      this.#grow();
    }
    const hash = hashOf(parent, bytes, start, end);
    this.parents[name] = parent;
    this.children[name] = child;
    this.starts[name] = this.addText(bytes, start, end);
    this.lengths[name] = end - start;
    this.#hashes[name] = hash;
    this.#place(name, hash);
    return name;
  }

  /** Keeps some bytes. @returns where they begin. */
  addText(bytes: Buffer, start: number, end: number): number {
    const at = this.textBytes;
    this.textBytes += end - start;
    if (this.textBytes > this.texts.length) {
      const larger = Buffer.allocUnsafe(2 * this.textBytes);
      this.texts.copy(larger, 0, 0, at);
      this.texts = larger;
    }
    const { texts } = this;
    for (let from = start, to = at; from < end; from += 1, to += 1) {
      texts[to] = bytes[from] ?? 0;
    }
    return at;
  }

  #place(name: number, hash: number): void {
    const places = this.#places;
    const mask = places.length - 1;
    let at = hash & mask;
    while (places[at] !== 0) {
      at = (at + 1) & mask;
    }
    places[at] = name + 1;
  }

  #isSame(name: number, parent: number, bytes: Buffer, start: number, end: number): boolean {
    if (this.parents[name] !== parent || this.lengths[name] !== end - start) {
      return false;
    }
    const { texts } = this;
    for (let at = start, own = this.starts[name] ?? 0; at < end; at += 1, own += 1) {
      if (texts[own] !== bytes[at]) {
        return false;
      }
    }
    return true;
  }

  #grow(): void {
    const { count } = this;
    this.parents = withRoom(this.parents, count);
    this.children = withRoom(this.children, count);
    this.starts = withRoom(this.starts, count);
    this.lengths = withRoom(this.lengths, count);
    this.#hashes = withRoom(this.#hashes, count);
    this.#places = new Uint32Array(2 * this.parents.length);
    for (let name = 0; name < count - 1; name += 1) {
      this.#place(name, this.#hashes[name] ?? 0);
    }
  }
}

/** FNV-1a over the bytes, and then mixed so that the low bits depend on all others. */
function hashOf(parent: number, bytes: Buffer, start: number, end: number): number {
  let hash = Math.imul(seed ^ parent, 0x9e37_79b1);
  for (let at = start; at < end; at += 1) {
    hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x0100_0193);
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}
