import { type Mount, mountAll } from "@oci-worker/mounts/mount";

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

  /** @param syncsOnCommit without it only the unmount puts on disk what a step has written. */
  constructor(syncsOnCommit: boolean) {
    this.#takesVolatile = syncsOnCommit;
  }

  async mount(mounts: readonly Mount[], target: string): Promise<void> {
    if (this.#takesVolatile && mounts.some(isWritableOverlay)) {
      try {
        await mountAll(mounts.map(withVolatile), target);
        return;
      } catch {
        // An older kernel, or a failure that the plain mount has as well.
      }
      await mountAll(mounts, target);
      this.#takesVolatile = false;
      return;
    }
    await mountAll(mounts, target);
  }
}

function isWritableOverlay({ type, options }: Mount): boolean {
  return type === "overlay" && options.some((option) => option.startsWith("upperdir="));
}

function withVolatile(mount: Mount): Mount {
  return isWritableOverlay(mount) ? { ...mount, options: [...mount.options, volatile] } : mount;
}
