import type { Mount } from "@oci-worker/mounts/mount";
import type { Labels } from "@oci-worker/snapshots/labels";
import type { Backend, Mountable, NewContent } from "../backend.ts";
import { Overlayfs } from "../overlayfs/overlayfs.ts";
import { fuseOverlayMounts } from "./mounts.ts";

const unmapped: Labels = {};

/**
 * Keeps of each snapshot what differs from its parent, as overlayfs does, and has the program fuse-overlayfs show the
 * whole: for kernels and file systems that overlayfs cannot be used on. Each mount is a process of whoever mounts it.
 */
export class FuseOverlayfs implements Backend {
  readonly name = "fuse-overlayfs";
  readonly canRebase = true;
  readonly mountOptions: readonly string[] = [];
  readonly idMapObstacle: string | undefined;
  /** The directories are the same. */
  readonly #directories: Overlayfs;

  /** @param idMapObstacle see {@link Backend.idMapObstacle}. */
  constructor(idMapObstacle: string | undefined) {
    this.idMapObstacle = idMapObstacle;
    this.#directories = new Overlayfs({ options: [], idMapObstacle, upperdirLabel: false });
  }

  isSpareEnough(content: NewContent): boolean {
    return this.#directories.isSpareEnough({ ...content, labels: unmapped });
  }

  /** The program maps the ids of the upper directory too, both ways: on disk they are those of the container. */
  fill(directory: string, content: NewContent): Promise<void> {
    return this.#directories.fill(directory, { ...content, labels: unmapped });
  }

  /** None: an upper directory says nothing to those who expect the kernel's. */
  labelsOf(): undefined {
    return undefined;
  }

  mounts(snapshot: Mountable): Mount[] {
    return fuseOverlayMounts(snapshot);
  }
}
