import { readFileSync } from "node:fs";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { DataLossError } from "@oci-worker/errdefs";
import { errno } from "@oci-worker/fuse/errno";
import { later } from "@oci-worker/fuse/file-system";
import { digestOf } from "@oci-worker/oci/digest";
import type { Tree } from "../kernel/tree-file-system.ts";
import { readTreeRecord, type TreeRecord } from "../kernel/tree-records.ts";
import { DeviceReader, missing } from "./device-reader.ts";
import type { MissedRead } from "./missed-read.ts";
import type { SharedLayer } from "./shared-layer.ts";

export interface LayerTreesOptions {
  readonly onMiss: (read: MissedRead) => void;
  /** The image of a layer is not good, which is told once until it is. */
  readonly onDamaged: (layerNumber: number, error: Error) => void;
}

/** A tree, and the layer that it shows. */
interface LayerTree extends Tree {
  readonly layerNumber: number;
}

/** What the files of layers are made of, where the kernel cannot mount their images: the images, and their data devices. */
export class LayerTrees {
  readonly #recordsPath: string;
  readonly #options: LayerTreesOptions;
  readonly #readers = new Map<number, DeviceReader>();
  readonly #trees = new Map<number, LayerTree>();
  /** Layers whose images are known to be damaged. */
  readonly #damaged = new Set<number>();

  /** @param recordsPath where it is written which layer a tree shows. */
  constructor(recordsPath: string, options: LayerTreesOptions) {
    this.#recordsPath = recordsPath;
    this.#options = options;
  }

  /** From now on files of `layer` can be read. */
  add(layer: SharedLayer): void {
    this.remove(layer.number);
    this.#readers.set(layer.number, new DeviceReader(layer));
  }

  remove(layerNumber: number): void {
    this.#readers.get(layerNumber)?.[Symbol.dispose]();
    this.#readers.delete(layerNumber);
    for (const [number, tree] of this.#trees) {
      if (tree.layerNumber === layerNumber) {
        this.#trees.delete(number);
      }
    }
  }

  /**
   * @returns undefined if there is no such tree.
   * @throws {DataLossError} if its image is not the one that was made.
   */
  find(number: number): Tree | undefined {
    const known = this.#trees.get(number);
    if (known !== undefined) {
      return known;
    }
    const record = readTreeRecord(this.#recordsPath, number);
    const tree = record && this.#open(record);
    if (tree !== undefined) {
      this.#trees.set(number, tree);
    }
    return tree;
  }

  #open(record: TreeRecord): LayerTree {
    const { layerNumber } = record;
    const image = this.#imageOf(record);
    this.#damaged.delete(layerNumber);
    return {
      layerNumber,
      image,
      read: (offset, size, reply, at, unique) => this.#read(layerNumber, offset, size, reply, at, unique),
    };
  }

  /** Of a layer that is shown twice there is one image in memory. */
  #imageOf({ layerNumber, metaPath, metaDigest }: TreeRecord): ErofsImage {
    const other = this.#trees.values().find((tree) => tree.layerNumber === layerNumber);
    if (other !== undefined) {
      return other.image;
    }
    const image = contentOf(metaPath);
    if (image === undefined || digestOf(image) !== metaDigest) {
      const what = image === undefined ? "is gone" : "is damaged";
      const error = new DataLossError(`Cannot show layer ${layerNumber}: its image ${metaPath} ${what}`);
      if (!this.#damaged.has(layerNumber)) {
        this.#damaged.add(layerNumber);
        this.#options.onDamaged(layerNumber, error);
      }
      throw error;
    }
    return new ErofsImage(image);
  }

  #read(
    layerNumber: number,
    offset: number,
    size: number,
    reply: Buffer,
    at: number,
    unique: bigint,
  ): number {
    const reader = this.#readers.get(layerNumber);
    if (reader === undefined) {
      return -errno.EIO;
    }
    const read = reader.read(offset, size, reply, at);
    if (read !== missing) {
      return read;
    }
    this.#options.onMiss({ layer: layerNumber, offset, size, unique });
    return later;
  }
}

function contentOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
