import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
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
import { SnapshotDirectories, snapshotsIn } from "./snapshot-directories.ts";
import { LazyMounts } from "./stargz/lazy-mounts.ts";
import { type LazyParts, openLazyParts } from "./stargz/open-lazy-parts.ts";
import { RemoteSnapshots } from "./stargz/remote-snapshots.ts";
import { Stargz } from "./stargz/stargz.ts";

/**
 * Opens the snapshotter on `root`, with the backend that {@link chooseBackend} settles on. The caller holds the lock
 * of the root.
 *
 * @param openParts opens what stargz needs besides.
 * @throws {FailedPreconditionError} if the backend cannot run on this host, or the root belongs to something else.
 * @throws {DataLossError} if the metadata is damaged, or gone.
 */
export async function openSnapshotter(
  config: Config,
  log: Logger,
  openParts: (config: Config, log: Logger) => Promise<LazyParts> = openLazyParts,
): Promise<DirectoryStore> {
  const { root, snapshotter: wanted, syncOnCommit } = config;
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
    stargz: async () => {
      const overlayfs = await probeOverlayfs(root, config);
      return "obstacle" in overlayfs ? overlayfs : new Stargz(overlayfs);
    },
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
  const lazy = backend.name === "stargz" ? undo.use(await openParts(config, log)) : undefined;
  const lazyMounts = lazy && (await LazyMounts.open({ ...lazy, snapshots: snapshotsIn(root), log }));
  const directories = await SnapshotDirectories.open({
    root,
    backend,
    trees,
    lastID,
    liveIDs: () => metastore.ids(),
    ownMounts: lazyMounts,
    log,
  });
  undo.use(directories);
  await reportLostDirectories(root, metastore, log);
  const remote =
    lazy && lazyMounts && new RemoteSnapshots({ ...lazy, metastore, directories, lazyMounts, log });
  await remote?.sweepLabels();
  const owned = undo.move();
  return new DirectoryStore({
    metastore,
    directories,
    root,
    choice,
    trees,
    remote,
    syncOnCommit,
    log,
    owned,
  });
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
