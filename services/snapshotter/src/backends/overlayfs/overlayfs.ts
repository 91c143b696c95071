import type { Mount } from "@oci-worker/mounts/mount";
import { idMappingOf } from "@oci-worker/snapshots/id-mapping";
import type { Labels } from "@oci-worker/snapshots/labels";
import { type Backend, contentOf, type Mountable, type NewContent } from "../backend.ts";
import { makeContentDirectory, type Owner, ownerOf } from "../content-directory.ts";
import { fillActiveDirectory } from "./directory.ts";
import { overlayMounts } from "./mounts.ts";

export interface OverlayfsOptions {
  /** Of every overlay mount. */
  readonly options: readonly string[];
  /** See {@link Backend.idMapObstacle}. */
  readonly idMapObstacle: string | undefined;
  /** Whether snapshots are described with {@link upperdirLabel}. */
  readonly upperdirLabel: boolean;
}

/** Tells where the content of a snapshot is, for tools that measure or back up upper directories. Never stored. */
const upperdirLabel = "containerd.io/snapshot/overlay.upperdir";

/** Keeps of each snapshot what differs from its parent, and has the kernel's overlayfs show the whole. */
export class Overlayfs implements Backend {
  readonly name = "overlayfs";
  readonly canRebase = true;
  readonly idMapObstacle: string | undefined;
  readonly mountOptions: readonly string[];
  readonly #upperdirLabel: boolean;

  constructor({ options, idMapObstacle, upperdirLabel }: OverlayfsOptions) {
    this.mountOptions = options;
    this.idMapObstacle = idMapObstacle;
    this.#upperdirLabel = upperdirLabel;
  }

  /** Nearly always: the root directory of few images belongs to anybody but root. */
  isSpareEnough(content: NewContent): boolean {
    if (content.kind !== "active") {
      return false;
    }
    const owner = topOwner(content);
    return owner === undefined || (owner.uid === process.geteuid?.() && owner.gid === process.getegid?.());
  }

  async fill(directory: string, content: NewContent): Promise<void> {
    if (content.kind === "active") {
      fillActiveDirectory(directory, topOwner(content));
    } else {
      makeContentDirectory(contentOf(directory), topOwner(content));
    }
  }

  labelsOf(directory: string): Labels | undefined {
    return this.#upperdirLabel ? { [upperdirLabel]: contentOf(directory) } : undefined;
  }

  mounts(snapshot: Mountable): Mount[] {
    return overlayMounts(snapshot, this.mountOptions);
  }
}

/**
 * Whom the top directory of a new snapshot has to belong to; undefined if that is us.
 *
 * Of an overlay with mapped ids only the lower directories are mapped: the upper one is written to by the container's
 * root under the id that it has on the host. A snapshot on nothing is no overlay but a bind mount, mapped as a whole.
 */
function topOwner({ parentContent, labels }: NewContent): Owner | undefined {
  return parentContent === undefined ? undefined : (idMappingOf(labels)?.root ?? ownerOf(parentContent));
}
