import { readFileSync } from "node:fs";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { errno } from "@oci-worker/fuse/errno";
import { later } from "@oci-worker/fuse/file-system";
import { ImageFileSystem } from "../kernel/image-file-system.ts";
import { DeviceReader, missing } from "./device-reader.ts";
import type { MissedRead } from "./missed-read.ts";
import type { SharedLayer } from "./shared-layer.ts";

export interface LayerFilesOptions {
  readonly onMiss: (read: MissedRead) => void;
  readonly onInterrupt: (unique: bigint) => void;
}

/** What the files of one layer read: its data device, once {@link LayerFiles.add} has told of it. */
class LayerData {
  #reader: DeviceReader | undefined;
  readonly #onMiss: (read: MissedRead) => void;

  constructor(onMiss: (read: MissedRead) => void) {
    this.#onMiss = onMiss;
  }

  set(layer: SharedLayer | undefined): void {
    this.#reader?.[Symbol.dispose]();
    this.#reader = layer && new DeviceReader(layer);
  }

  read(offset: number, size: number, reply: Buffer, at: number, unique: bigint): number {
    if (this.#reader === undefined) {
      return -errno.EIO;
    }
    const read = this.#reader.read(offset, size, reply, at);
    if (read !== missing) {
      return read;
    }
    this.#onMiss({ layer: this.#reader.layer.number, offset, size, unique });
    return later;
  }
}

/** The files of one layer, out of its image and its data device, where the kernel cannot mount those. */
export class LayerFiles extends ImageFileSystem {
  readonly #data: LayerData;

  constructor(metaPath: string, { onMiss, onInterrupt }: LayerFilesOptions) {
    const data = new LayerData(onMiss);
    super(new ErofsImage(readFileSync(metaPath)), {
      read: (offset, size, reply, at, unique) => data.read(offset, size, reply, at, unique),
      onInterrupt,
    });
    this.#data = data;
  }

  add(layer: SharedLayer): void {
    this.#data.set(layer);
  }

  remove(_layerNumber: number): void {
    this.#data.set(undefined);
  }
}
