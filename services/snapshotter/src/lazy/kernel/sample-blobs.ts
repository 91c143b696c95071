import { openSync, readSync } from "node:fs";
import { writeAttributes } from "@oci-worker/fuse/attributes";
import { errno } from "@oci-worker/fuse/errno";
import { type FileSystem, later } from "@oci-worker/fuse/file-system";
import type { LayerToMount } from "./layer-mounter.ts";

const rootNode = 1;
const ownedByRoot = { links: 1, uid: 0, gid: 0, deviceNumber: 0, modifiedSeconds: 0n, modifiedNanos: 0 };

/** Reads of layers' data devices, from files that are complete; for tests. */
export class SampleData {
  readonly #files = new Map<number, number>();
  readonly #isMute: boolean;
  readonly #onRead: (sizeBytes: number) => void;

  /** @param isMute nothing is answered. */
  constructor(layers: readonly LayerToMount[], isMute: boolean, onRead: (sizeBytes: number) => void) {
    this.#isMute = isMute;
    this.#onRead = onRead;
    for (const { number, dataPath } of layers) {
      this.#files.set(number, openSync(dataPath, "r"));
    }
  }

  read(number: number, offset: number, size: number, reply: Buffer, at: number): number {
    this.#onRead(size);
    const file = this.#files.get(number);
    return this.#isMute || file === undefined ? later : readSync(file, reply, at, size, offset);
  }
}

/** The data devices of layers as files. */
export class SampleBlobs implements FileSystem {
  readonly cache = { seconds: 1_000_000, absent: false };
  readonly #blocks: ReadonlyMap<number, number>;
  readonly #data: SampleData;

  constructor(layers: readonly LayerToMount[], data: SampleData) {
    this.#blocks = new Map(layers.map(({ number, dataBlocks }) => [number, dataBlocks]));
    this.#data = data;
  }

  lookup(_parent: number, request: Buffer, from: number, to: number): number {
    const number = Number(request.toString("latin1", from, to));
    return this.#blocks.has(number) ? number + rootNode : 0;
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    const blocks = this.#blocks.get(node - rootNode) ?? 0;
    const mode = node === rootNode ? 0o040700 : 0o100400;
    writeAttributes(reply, at, { ...ownedByRoot, inode: node, mode, sizeBytes: blocks * 4096 });
    return true;
  }

  readLink(): number {
    return -errno.EINVAL;
  }

  list(): undefined {
    return undefined;
  }

  xattr(): undefined {
    return undefined;
  }

  xattrNames(): readonly string[] {
    return [];
  }

  read(node: number, offset: number, size: number, reply: Buffer, at: number): number {
    return this.#data.read(node - rootNode, offset, size, reply, at);
  }

  interrupt(): void {}
}
