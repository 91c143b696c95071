import { codeOf } from "./error-code.ts";
import { forgetHeldMount, type HeldMount } from "./held-mount.ts";
import type { LayerMounter, LayerToMount, PassedOver, ServeDevice } from "./layer-mounter.ts";
import { openElsewhere } from "./look-up.ts";
import { type ErofsWay, mountErofs } from "./mount-erofs.ts";
import { unmountUnused } from "./unmount-unused.ts";

/**
 * Mounts EROFS images whose data devices are files of one FUSE mount: all of the metadata is with the kernel, and a read is
 * one request, of the bytes that are not in its memory.
 */
export class ErofsMounter implements LayerMounter {
  readonly mode;
  readonly passedOver;
  readonly adopted;
  readonly #way: ErofsWay;
  readonly #blobs: HeldMount;
  #serving: Promise<void> = Promise.resolve();

  constructor(way: ErofsWay, blobs: HeldMount, passedOver: readonly PassedOver[]) {
    this.mode = way.mode;
    this.passedOver = passedOver;
    this.adopted = blobs.isAdopted;
    this.#way = way;
    this.#blobs = blobs;
  }

  serveWith(serve: ServeDevice): void {
    const { fd, target, isAdopted } = this.#blobs;
    this.#serving = serve({ kind: "blobs", fd, target, isAdopted });
  }

  async mountLayer(layer: LayerToMount, target: string): Promise<void> {
    await mountErofs(this.#way, layer.metaPath, await this.#dataOf(layer), target);
  }

  async unmountLayer(target: string): Promise<void> {
    unmountUnused(target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { target } = this.#blobs;
    try {
      unmountUnused(target);
    } catch (error) {
      if (codeOf(error) === "EBUSY") {
        // Some layer has its data device in there.
        return;
      }
      throw error;
    }
    await this.#serving;
    await forgetHeldMount(this.#blobs);
  }

  /** A complete layer is read without us. */
  async #dataOf({ number, dataPath, dataBlocks, isComplete }: LayerToMount): Promise<string | undefined> {
    if (dataBlocks === 0 || isComplete) {
      return dataBlocks === 0 ? undefined : dataPath;
    }
    const path = `${this.#blobs.target}/${number}`;
    await openElsewhere(path);
    return path;
  }
}
