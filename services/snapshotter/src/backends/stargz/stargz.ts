import type { Mount } from "@oci-worker/mounts/mount";
import type { Labels } from "@oci-worker/snapshots/labels";
import type { Backend, Mountable, NewContent } from "../backend.ts";
import type { Overlayfs } from "../overlayfs/overlayfs.ts";

/**
 * Keeps and shows snapshots as overlayfs does. A layer that nobody has unpacked is mounted in the content directory of
 * its snapshot, so whatever stands on that cannot tell it from files.
 */
export class Stargz implements Backend {
  readonly name = "stargz";
  readonly canRebase = true;
  readonly idMapObstacle: string | undefined;
  readonly mountOptions: readonly string[];
  readonly #overlayfs: Overlayfs;

  constructor(overlayfs: Overlayfs) {
    this.#overlayfs = overlayfs;
    this.idMapObstacle = overlayfs.idMapObstacle;
    this.mountOptions = overlayfs.mountOptions;
  }

  isSpareEnough(content: NewContent): boolean {
    return this.#overlayfs.isSpareEnough(content);
  }

  fill(directory: string, content: NewContent): Promise<void> {
    return this.#overlayfs.fill(directory, content);
  }

  labelsOf(directory: string): Labels | undefined {
    return this.#overlayfs.labelsOf(directory);
  }

  mounts(snapshot: Mountable): Mount[] {
    return this.#overlayfs.mounts(snapshot);
  }
}
