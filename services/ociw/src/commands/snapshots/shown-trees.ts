import { randomBytes } from "node:crypto";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Trees } from "@oci-worker/layer/compare-trees";
import { type Mount, mountTemporarily } from "@oci-worker/mounts/mount";
import { readOnlyMounts } from "@oci-worker/mounts/read-only";
import { upperDirectoryOver } from "@oci-worker/mounts/upper-directory";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";

/** The trees of two snapshots, mounted for reading until they are disposed of. */
export interface ShownTrees extends Trees, AsyncDisposable {}

/**
 * Mounts the snapshots `lower` and `upper` in a directory of their own, by way of temporary views of those that are
 * committed. Whatever happens, mounts and views are gone once the result is disposed of.
 *
 * @param lower undefined for an empty tree.
 * @throws {FailedPreconditionError} if this process may not mount.
 */
export async function showTrees(
  snapshotter: Snapshotter,
  lower: Info | undefined,
  upper: Info,
  signal: AbortSignal,
): Promise<ShownTrees> {
  if (process.geteuid?.() !== 0) {
    throw new FailedPreconditionError("Cannot look into snapshots: only root may mount them, want sudo");
  }
  await using undo = new AsyncDisposableStack();
  const scratch = undo.use(await mkdtempDisposable(join(tmpdir(), "ociw-diff-"))).path;
  const show = async (info: Info): Promise<{ path: string; mounts: Mount[] }> => {
    const mounts = readOnlyMounts(
      info.kind === "committed"
        ? await viewOf(snapshotter, info.name, undo, signal)
        : await snapshotter.mounts(info.name, signal),
    );
    return { path: undo.use(await mountTemporarily(mounts, scratch)).path, mounts };
  };
  const below = lower === undefined ? undefined : await show(lower);
  const above = await show(upper);
  const owned = undo.move();
  return {
    lower: below?.path,
    upper: above.path,
    touched: below === undefined ? undefined : upperDirectoryOver(below.mounts, above.mounts),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Mounts of a view on the committed snapshot `name`, removed by `undo`. */
async function viewOf(
  snapshotter: Snapshotter,
  name: string,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Mount[]> {
  const key = `ociw-diff-${randomBytes(8).toString("hex")}`;
  // Even if the answer does not come any more the view may be there.
  undo.defer(() => snapshotter.remove(key).catch(() => undefined));
  // containerd's garbage collector takes what nothing refers to, unless it has this label.
  return await snapshotter.view(key, name, { "containerd.io/gc.root": new Date().toISOString() }, signal);
}
