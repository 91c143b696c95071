import { type Mount, mountAll } from "@oci-worker/mounts/mount";
import type { OwnerMap } from "@oci-worker/mounts/owner-map";

/** An overlay that is not written to disk when it is synced or unmounted; Linux 5.10 (overlayfs.rst, "Volatile mount"). */
const volatile = "volatile";

/**
 * Mounts the root file systems of steps.
 *
 * Unmounting an overlay waits until all that anybody has written to the disk beneath is there, and a package manager
 * waits for each of its files. Neither is of use for a snapshot that is synced as a whole when it is committed, and dropped
 * if it is not.
 */
export class RootMounts {
  #takesVolatile: boolean;
  readonly #owners: OwnerMap | undefined;

  /**
   * @param syncsOnCommit without it only the unmount puts on disk what a step has written.
   * @param owners whose ids files are shown with; undefined: as they are.
   */
  constructor(syncsOnCommit: boolean, owners: OwnerMap | undefined) {
    this.#takesVolatile = syncsOnCommit;
    this.#owners = owners;
  }

  async mount(mounts: readonly Mount[], target: string): Promise<void> {
    if (this.#takesVolatile && mounts.some(isWritableOverlay)) {
      try {
        await mountAll(mounts.map(withVolatile), target, this.#owners);
        return;
      } catch {
        // An older kernel, or a failure that the plain mount has as well.
      }
      await mountAll(mounts, target, this.#owners);
      this.#takesVolatile = false;
      return;
    }
    await mountAll(mounts, target, this.#owners);
  }
}

function isWritableOverlay({ type, options }: Mount): boolean {
  return type === "overlay" && options.some((option) => option.startsWith("upperdir="));
}

function withVolatile(mount: Mount): Mount {
  return isWritableOverlay(mount) ? { ...mount, options: [...mount.options, volatile] } : mount;
}
