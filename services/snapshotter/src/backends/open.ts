import { chmod, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataLossError, FailedPreconditionError, UnimplementedError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Config, SnapshotterName } from "../config.ts";
import { Metastore } from "../metastore/metastore.ts";
import { Trees } from "../trees/trees.ts";
import type { BackendName, Probe } from "./backend.ts";
import { chooseBackend } from "./choose.ts";
import { DirectoryStore } from "./directory-store.ts";
import { Native } from "./native/native.ts";
import { probeOverlayfs } from "./overlayfs/probe.ts";
import { SnapshotDirectories } from "./snapshot-directories.ts";

/**
 * Opens the snapshotter on `root`, with the backend that {@link chooseBackend} settles on. The caller holds the lock
 * of the root.
 *
 * @throws {FailedPreconditionError} if the backend cannot run on this host, or the root belongs to something else.
 * @throws {DataLossError} if the metadata is damaged, or gone.
 */
export async function openSnapshotter(
  { root, snapshotter, syncOnCommit }: Pick<Config, "root" | "snapshotter" | "syncOnCommit">,
  log: Logger,
): Promise<DirectoryStore> {
  const wanted = implemented(snapshotter);
  await mkdir(root, { recursive: true, mode: 0o700 });
  // Whoever can enter it can run the set-user-ID programs of every image in it (CVE-2021-41103).
  await chmod(root, 0o700);
  await refuseWithoutMetadata(root);
  await using undo = new AsyncDisposableStack();
  const metastore = undo.use(new Metastore(join(root, "metadata.db")));
  const existing = known(metastore.backend, root);
  const trees = undo.use(new Trees());
  const probes: Readonly<Record<BackendName, Probe>> = {
    overlayfs: probeOverlayfs,
    native: async () => new Native(trees, log, syncOnCommit),
  };
  const backend = await chooseBackend({ root, wanted, existing, probes }, log);
  await metastore.setBackend(backend.name);
  const { lastID } = metastore;
  const isLive = (id: number) => metastore.has(id);
  const directories = await SnapshotDirectories.open({ root, backend, trees, lastID, isLive, log });
  undo.use(directories);
  const owned = undo.move();
  return new DirectoryStore({ metastore, directories, backend, trees, syncOnCommit, log, owned });
}

/** Whatever the metadata does not know is deleted: without any, that would be all there is. */
async function refuseWithoutMetadata(root: string): Promise<void> {
  const metadata = await stat(join(root, "metadata.db")).catch(() => undefined);
  const names = await readdir(join(root, "snapshots")).catch(() => []);
  if ((metadata?.size ?? 0) === 0 && names.some((name) => /^\d+$/.test(name))) {
    throw new DataLossError(
      `Cannot use ${root}: it has directories of snapshots and no metadata.db, want that restored, or oci-snapshotter --repair to move them aside`,
    );
  }
}

function implemented(name: SnapshotterName): BackendName | "auto" {
  if (name === "fuse-overlayfs" || name === "stargz") {
    throw new UnimplementedError(
      `Cannot start snapshotter ${name}: this version does not have it, want one of auto, native, overlayfs`,
    );
  }
  return name;
}

function known(name: string | undefined, root: string): BackendName | undefined {
  if (name === undefined || name === "native" || name === "overlayfs") {
    return name;
  }
  throw new FailedPreconditionError(
    `Cannot use ${root}: it holds snapshots of ${JSON.stringify(name)}, which this version does not have`,
  );
}
