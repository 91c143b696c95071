import { unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { asFileOwner } from "@oci-worker/libc/file-owner";
import { type Mount, mountTemporarily } from "@oci-worker/mounts/mount";
import type { OwnerMap } from "@oci-worker/mounts/owner-map";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { newId } from "../new-id.ts";

/** What snapshots are tried out with. */
interface Trial {
  readonly snapshotter: Snapshotter;
  /** How it keeps them, for the error. */
  readonly backend: string;
  readonly owners: OwnerMap;
  /** Where to mount them. */
  readonly mountDirectory: string;
}

/**
 * Makes sure that steps can be shown the snapshots of a snapshotter as theirs, by trying it with two: one that may be a plain
 * directory, and one on top of it, as most steps are given. Both are removed again; what a worker that is killed here leaves
 * has no record, and goes when the next one starts.
 *
 * @throws {FailedPreconditionError} naming the backend, and what the kernel said.
 */
export async function requireRemappedSnapshots(trial: Trial): Promise<void> {
  const { backend, snapshotter } = trial;
  const [below, committed, above] = [`work-${newId()}`, `result-${newId()}`, `work-${newId()}`] as const;
  await using undo = new AsyncDisposableStack();
  try {
    const mounts = await snapshotter.prepare(below, undefined, {});
    let lower: string = below;
    undo.defer(() => snapshotter.remove(lower));
    await tryOut(mounts, trial, (file) => writeFileSync(file, ""));
    await snapshotter.commit(committed, below, {});
    lower = committed;
    const mountsAbove = await snapshotter.prepare(above, committed, {});
    undo.defer(() => snapshotter.remove(above));
    await tryOut(mountsAbove, trial, unlinkSync);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(
      `Cannot remap steps with the snapshotter ${backend}: ${why}, want Linux 5.19 and a snapshotter such as overlayfs or native on ext4, xfs or btrfs`,
      { cause },
    );
  }
}

/** Does `act` with a file as steps' root would. */
async function tryOut(
  mounts: readonly Mount[],
  { owners, mountDirectory }: Trial,
  act: (file: string) => void,
): Promise<void> {
  await using directory = await mountTemporarily(mounts, mountDirectory, owners);
  asFileOwner(owners.root.uid, owners.root.gid, () => act(join(directory.path, "file")));
}
