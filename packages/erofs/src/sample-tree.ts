import { blockBytes, type Directory, type Node } from "./node.ts";

const attributes = {
  permissions: 0o644,
  uid: 0,
  gid: 0,
  modifiedNs: 1_700_000_000_123_456_789n,
  xattrs: new Map<string, Uint8Array>(),
} as const;

export function directory(entries: Readonly<Record<string, Node>>, more: Partial<Directory> = {}): Directory {
  return {
    ...attributes,
    permissions: 0o755,
    ...more,
    kind: "directory",
    entries: new Map(Object.entries(entries)),
  };
}

export function symbolicLink(target: string): Node {
  return { ...attributes, permissions: 0o777, kind: "symbolic-link", target };
}

export function whiteout(): Node {
  return { ...attributes, kind: "character-device", major: 0, minor: 0 };
}

export function device(kind: "character-device" | "block-device", major: number, minor: number): Node {
  return { ...attributes, kind, major, minor };
}

export function endpoint(kind: "fifo" | "socket"): Node {
  return { ...attributes, kind };
}

/** A data device in the making: gives each file its blocks. */
export class SampleData {
  #parts: Buffer[] = [];
  #blocks = 0;

  get blocks(): number {
    return this.#blocks;
  }

  file(content: Uint8Array, more: Partial<typeof attributes | Directory> = {}): Node {
    const dataBlock = this.#blocks;
    const blocks = Math.ceil(content.length / blockBytes);
    const padded = Buffer.alloc(blocks * blockBytes);
    padded.set(content);
    this.#parts.push(padded);
    this.#blocks += blocks;
    return { ...attributes, ...more, kind: "file", sizeBytes: content.length, dataBlock };
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
