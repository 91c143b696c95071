import { lstatSync } from "node:fs";
import type { Mount } from "@oci-worker/mounts/mount";
import { type Backend, contentOf, type MountableKind } from "../backend.ts";
import { makeContentDirectory } from "../content-directory.ts";
import { fillActiveDirectory } from "./directory.ts";
import { overlayMounts } from "./mounts.ts";

/** Keeps of each snapshot what differs from its parent, and has the kernel's overlayfs show the whole. */
export class Overlayfs implements Backend {
  readonly name = "overlayfs";
  readonly canRebase = true;
  readonly #options: readonly string[];

  /** @param options of every overlay mount. */
  constructor(options: readonly string[]) {
    this.#options = options;
  }

  /** Nearly always: the root directory of few images belongs to anybody but root. */
  isSpareEnough(kind: MountableKind, parentContent: string | undefined): boolean {
    if (kind !== "active" || parentContent === undefined) {
      return kind === "active";
    }
    const { uid, gid } = lstatSync(parentContent);
    return uid === process.geteuid?.() && gid === process.getegid?.();
  }

  async fill(directory: string, kind: MountableKind, parentContent: string | undefined): Promise<void> {
    if (kind === "active") {
      fillActiveDirectory(directory, parentContent);
    } else {
      makeContentDirectory(contentOf(directory), parentContent);
    }
  }

  mounts(kind: MountableKind, directory: string, parents: readonly string[]): Mount[] {
    return overlayMounts(kind, directory, parents, this.#options);
  }
}
