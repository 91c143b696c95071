import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError, UnimplementedError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Config, SnapshotterName } from "../config.ts";
import { Metastore } from "../metastore/metastore.ts";
import { Trees } from "../trees/trees.ts";
import { type BackendName, backendNames, type Probe } from "./backend.ts";
import { chooseBackend } from "./choose.ts";
import { refuseWithoutMetadata, reportLostDirectories } from "./damage-at-start.ts";
import { DirectoryStore } from "./directory-store.ts";
import { probeFuseOverlayfs } from "./fuse-overlayfs/probe.ts";
import { bindIn, probeIDMap } from "./id-map-probe.ts";
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
  config: Pick<
    Config,
    "root" | "snapshotter" | "autoExclude" | "syncOnCommit" | "mountOptions" | "upperdirLabel"
  >,
  log: Logger,
): Promise<DirectoryStore> {
  const { root, snapshotter, syncOnCommit } = config;
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
    overlayfs: () => probeOverlayfs(root, config),
    "fuse-overlayfs": probeFuseOverlayfs,
    native: async () => {
      const idMapObstacle = await probeIDMap(root, bindIn);
      return new Native({ trees, log, syncsContent: syncOnCommit, idMapObstacle });
    },
  };
  const { autoExclude: excluded } = config;
  const choice = await chooseBackend({ root, wanted, excluded, existing, probes }, log);
  const { backend } = choice;
  if (config.mountOptions.length > 0 && backend.name !== "overlayfs") {
    const { mountOptions } = config;
    log.warn(
      { backend: backend.name, mountOptions },
      "mountOptions are for overlayfs and change nothing here",
    );
  }
  const { idMapObstacle } = backend;
  if (idMapObstacle !== undefined) {
    log.info({ backend: backend.name, obstacle: idMapObstacle }, "snapshots with mapped ids are refused");
  }
  await metastore.setBackend(backend.name);
  const { lastID } = metastore;
  const isLive = (id: number) => metastore.has(id);
  const directories = await SnapshotDirectories.open({ root, backend, trees, lastID, isLive, log });
  undo.use(directories);
  await reportLostDirectories(root, metastore, log);
  const owned = undo.move();
  return new DirectoryStore({ metastore, directories, root, choice, trees, syncOnCommit, log, owned });
}

function implemented(name: SnapshotterName): BackendName | "auto" {
  if (name === "stargz") {
    throw new UnimplementedError(
      `Cannot start snapshotter ${name}: this version does not have it, want one of auto, ${backendNames.join(", ")}`,
    );
  }
  return name;
}

function known(name: string | undefined, root: string): BackendName | undefined {
  const backend = backendNames.find((each) => each === name);
  if (name === undefined || backend !== undefined) {
    return backend;
  }
  throw new FailedPreconditionError(
    `Cannot use ${root}: it holds snapshots of ${JSON.stringify(name)}, which this version does not have`,
  );
}
