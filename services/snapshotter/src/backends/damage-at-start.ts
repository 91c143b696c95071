import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataLossError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Metastore } from "../metastore/metastore.ts";

/** So many ids stand in a line of the log. */
const maxShownIDs = 20;

/**
 * Refuses a root that has snapshots and no metadata. Whatever the metadata does not know is deleted: without any, that
 * would be all there is.
 *
 * @throws {DataLossError} if that is so.
 */
export async function refuseWithoutMetadata(root: string): Promise<void> {
  const metadata = await stat(join(root, "metadata.db")).catch(() => undefined);
  const names = await readdir(join(root, "snapshots")).catch(() => []);
  if ((metadata?.size ?? 0) === 0 && names.some((name) => /^\d+$/.test(name))) {
    throw new DataLossError(
      `Cannot use ${root}: it has directories of snapshots and no metadata.db, want that restored, or oci-snapshotter --repair to move them aside`,
    );
  }
}

/**
 * Logs which snapshots have lost their directory. They are served as they are, for whoever has them removes them at last;
 * to mount one, or what stands on it, fails.
 */
export async function reportLostDirectories(root: string, metastore: Metastore, log: Logger): Promise<void> {
  const names = new Set(await readdir(join(root, "snapshots")));
  const lost = [...metastore.idsWithDirectory()].filter((id) => !names.has(`${id}`));
  if (lost.length > 0) {
    log.error(
      { root, snapshots: lost.length, ids: lost.slice(0, maxShownIDs) },
      "snapshots without their directory: stop this and see oci-snapshotter --check",
    );
  }
}
