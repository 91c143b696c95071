import { closeSync, openSync } from "node:fs";
import { errno } from "@oci-worker/fuse/errno";
import { readAt, readPassing } from "@oci-worker/libc/descriptor";
import { firstChunkBehind, isVerified, noteUse, type SharedLayer } from "./shared-layer.ts";

/** What {@link DeviceReader.read} gives when some of what is wanted is not there. */
export const missing = Number.MIN_SAFE_INTEGER;

/**
 * Reads that are at least so long come of somebody who reads on. The kernel keeps what they are given, as content of a file of
 * the layer; that it keeps the same a second time, as what is in the data file, costs memory, and on a machine that has to get
 * that first, as a virtual one may, more time than the disk takes: 256 MiB took 40 ms of CPU time instead of 270 then.
 */
const passingBytes = 128 * 1024;

/**
 * Reads a layer's data device, as far as it is there. For threads that serve the kernel: it takes a few microseconds and
 * allocates nothing.
 */
export class DeviceReader implements Disposable {
  readonly layer: SharedLayer;
  /** Not before somebody reads: the layer may be gone by the time that this thread hears that it has come. */
  #fd: number | undefined;
  #reply: Buffer | undefined;
  #content: Buffer | undefined;
  /** Whether this kernel and file system can read without keeping, as far as we know. */
  #canPass = true;

  constructor(layer: SharedLayer) {
    this.layer = layer;
  }

  /**
   * Writes up to `size` bytes from `offset` on at `at` of `reply`, which are the same two each time.
   *
   * @returns how many, fewer at the end of the device alone; {@link missing}, also if the file cannot be opened, so that
   * whoever fetches finds out why; or a negated errno.
   */
  read(offset: number, size: number, reply: Buffer, at: number): number {
    const { layer } = this;
    const wanted = Math.min(size, layer.deviceBytes - offset);
    if (wanted <= 0) {
      return 0;
    }
    const end = offset + wanted;
    // Before what is there is looked at: it may be given up, and be zeros, between the look and the read.
    const evictions = Atomics.load(layer.evictions, 0);
    const { starts } = layer;
    let isThere = true;
    for (let chunk = firstChunkBehind(layer, offset); chunk < starts.length; chunk += 1) {
      if ((starts[chunk] ?? end) >= end) {
        break;
      }
      noteUse(layer, chunk);
      isThere &&= isVerified(layer, chunk);
    }
    if (!isThere) {
      return missing;
    }
    if (this.#reply !== reply || this.#content === undefined) {
      this.#reply = reply;
      this.#content = reply.subarray(at);
    }
    this.#fd ??= opened(layer.dataPath);
    if (this.#fd === undefined) {
      return missing;
    }
    const read = this.#readFile(this.#fd, this.#content, wanted, offset);
    if (Atomics.load(layer.evictions, 0) !== evictions) {
      return missing;
    }
    // A file that was cut short behind our back must not look like the end of the device.
    return read === wanted ? read : -errno.EIO;
  }

  #readFile(fd: number, content: Buffer, wanted: number, offset: number): number {
    if (wanted >= passingBytes && this.#canPass) {
      const read = readPassing(fd, content, wanted, offset);
      if (read >= 0) {
        return read;
      }
      this.#canPass = false;
    }
    return readAt(fd, content, wanted, offset);
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) {
      closeSync(this.#fd);
    }
  }
}

function opened(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined;
  }
}
