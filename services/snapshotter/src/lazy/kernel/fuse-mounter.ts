import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { codeOf } from "./error-code.ts";
import { forgetHeldMount, type HeldMount } from "./held-mount.ts";
import type { LayerMounter, LayerToMount, PassedOver, ServeDevice } from "./layer-mounter.ts";
import { mountTree } from "./mount-tree.ts";
import { realTarget } from "./real-target.ts";
import type { TreeRecords } from "./tree-records.ts";
import { unmountUnused } from "./unmount-unused.ts";

/**
 * Mounts the directories of one FUSE mount that has the files of all layers: for where the kernel has no EROFS, or will not
 * mount it for us, as in a user namespace. Every first look at a file is a request.
 */
export class FuseMounter implements LayerMounter {
  readonly mode = "fuse";
  readonly passedOver;
  readonly adopted;
  readonly #trees: HeldMount;
  readonly #records: TreeRecords;
  #serving: Promise<void> = Promise.resolve();

  /** @param records of what is mounted out of `trees`. */
  static async open(
    trees: HeldMount,
    records: TreeRecords,
    passedOver: readonly PassedOver[],
  ): Promise<FuseMounter> {
    const mounts = await readMountInfo();
    const device = mountedAt(mounts, trees.target)?.device;
    for (const target of records.targets) {
      // What is not there, or not ours, a killed process has not come to, or it has gone with an earlier mount.
      if (mountedAt(mounts, target)?.device !== device) {
        records.remove(target);
      }
    }
    return new FuseMounter(trees, records, passedOver);
  }

  private constructor(trees: HeldMount, records: TreeRecords, passedOver: readonly PassedOver[]) {
    this.passedOver = passedOver;
    this.adopted = trees.isAdopted;
    this.#trees = trees;
    this.#records = records;
  }

  serveWith(serve: ServeDevice): void {
    const { fd, target, isAdopted } = this.#trees;
    this.#serving = serve({ kind: "trees", fd, target, isAdopted, recordsPath: this.#records.path });
  }

  async mountLayer({ number: layerNumber, metaPath, metaDigest }: LayerToMount, path: string): Promise<void> {
    const target = await realTarget(path);
    const number = this.#records.add({ layerNumber, metaPath, metaDigest, target });
    try {
      await mountTree(`${this.#trees.target}/${number}`, target);
    } catch (error) {
      this.#records.remove(target);
      throw error;
    }
  }

  async unmountLayer(path: string): Promise<void> {
    const target = await realTarget(path);
    unmountUnused(target);
    this.#records.remove(target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#records.targets.length > 0) {
      // For the next process to serve.
      return;
    }
    try {
      unmountUnused(this.#trees.target);
    } catch (error) {
      if (codeOf(error) === "EBUSY") {
        return;
      }
      throw error;
    }
    await this.#serving;
    await forgetHeldMount(this.#trees);
  }
}
