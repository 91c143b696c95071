import { writeAttributes } from "@oci-worker/fuse/attributes";
import { errno } from "@oci-worker/fuse/errno";
import { type FileSystem, type Listed, later } from "@oci-worker/fuse/file-system";
import { DeviceReader, missing } from "./device-reader.ts";
import type { MissedRead } from "./missed-read.ts";
import { nodeOf, rootNode, type SharedLayer } from "./shared-layer.ts";

export interface BlobFilesOptions {
  readonly onMiss: (read: MissedRead) => void;
}

/** Type and mode: only the kernel opens them, for whoever may read the file system on top. */
const [directoryMode, fileMode] = [0o040700, 0o100400];

const ownedByRoot = { uid: 0, gid: 0, deviceNumber: 0, modifiedSeconds: 0n, modifiedNanos: 0 };

const typeMask = 0o170000;

/** The largest that the protocol has, in seconds: the files never change. */
const forever = 2 ** 31 - 1;

/**
 * The data devices of layers as files, for the kernel to read: one directory, in it a file for each layer, named by its
 * number. Numbers are never used again, so the kernel may remember all it is told, save that there is no such name.
 */
export class BlobFiles implements FileSystem {
  readonly cache = { seconds: forever, absent: false };
  readonly #readers = new Map<number, DeviceReader>();
  readonly #options: BlobFilesOptions;

  constructor(options: BlobFilesOptions) {
    this.#options = options;
  }

  /** From now on there is a file for `layer`. */
  add(layer: SharedLayer): void {
    this.remove(layer.number);
    this.#readers.set(nodeOf(layer.number), new DeviceReader(layer));
  }

  remove(layerNumber: number): void {
    const node = nodeOf(layerNumber);
    this.#readers.get(node)?.[Symbol.dispose]();
    this.#readers.delete(node);
  }

  lookup(parent: number, request: Buffer, from: number, to: number): number {
    const name = request.toString("latin1", from, to);
    const node = parent === rootNode && /^[1-9]\d{0,14}$/.test(name) ? nodeOf(Number(name)) : 0;
    return this.#readers.has(node) ? node : 0;
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    const layer = this.#readers.get(node)?.layer;
    if (node !== rootNode && layer === undefined) {
      return false;
    }
    writeAttributes(reply, at, {
      ...ownedByRoot,
      inode: node,
      mode: layer === undefined ? directoryMode : fileMode,
      sizeBytes: layer?.deviceBytes ?? 0,
      links: layer === undefined ? 2 : 1,
    });
    return true;
  }

  readLink(): number {
    return -errno.EINVAL;
  }

  list(node: number, from: number): Iterator<Listed> | undefined {
    if (node !== rootNode) {
      return undefined;
    }
    const files = [...this.#readers.keys()].map((each) => ({ node: each, name: String(each - rootNode) }));
    return [{ node, name: "." }, { node, name: ".." }, ...files]
      .slice(from)
      .map((each) => ({
        node: each.node,
        typeBits: (each.node === rootNode ? directoryMode : fileMode) & typeMask,
        name: Buffer.from(each.name),
      }))
      .values();
  }

  xattr(): undefined {
    return undefined;
  }

  xattrNames(): readonly string[] {
    return [];
  }

  read(node: number, offset: number, size: number, reply: Buffer, at: number, unique: bigint): number {
    const reader = this.#readers.get(node);
    if (reader === undefined) {
      return -errno.EIO;
    }
    const read = reader.read(offset, size, reply, at);
    if (read !== missing) {
      return read;
    }
    this.#options.onMiss({ layer: reader.layer.number, offset, size, unique });
    return later;
  }

  /**
   * Whoever waits gets the content all the same: a file system reads this, and would make EIO of EINTR, for a program that
   * has been sent any signal. One that is killed is let go by the file system.
   */
  interrupt(): void {}
}
