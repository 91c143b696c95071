import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { unixChannel } from "@oci-worker/grpc/channel";
import { hostPlatform, type Platform } from "@oci-worker/oci/platform";
import { RegistryClient } from "@oci-worker/registry/client";
import { SourceClient } from "@oci-worker/sources/source-client";
import type { Logger } from "pino";
import { Builds } from "./builds/builds.ts";
import type { ExporterKind } from "./builds/exporter.ts";
import type { Collector } from "./cache/collector.ts";
import type { KeyTexts } from "./cache/key-texts.ts";
import { openCache } from "./cache/open.ts";
import type { RemovalLog } from "./cache/removal-log.ts";
import type { CacheUsage } from "./cache/usage.ts";
import { CacheMounts } from "./cache-mounts/cache-mounts.ts";
import { DeviceRegistry } from "./cdi/device-registry.ts";
import { grantDevices } from "./cdi/grant-devices.ts";
import type { Peers } from "./children/children.ts";
import type { Config } from "./config/config.ts";
import { BuildContainers } from "./containers/build-containers.ts";
import { ContentStore } from "./content/store.ts";
import type { WorkerMetrics } from "./debug/worker-metrics.ts";
import { Executor } from "./executor/executor.ts";
import { Runc } from "./executor/runc.ts";
import type { SelinuxPolicy } from "./executor/selinux/policy.ts";
import { exporterKinds } from "./exporters/exporter-kinds.ts";
import { BuildHistory } from "./history/build-history.ts";
import { BuildTable } from "./history/build-table.ts";
import { type Identity, identify } from "./identity.ts";
import { ImageStore } from "./image/image-store.ts";
import { Unpacker } from "./image/unpack.ts";
import { LayerBlobTable } from "./layers/layer-blob-table.ts";
import { openNetworks } from "./network/open-networks.ts";
import type { NetworkPlan } from "./network/plan.ts";
import { operationOf } from "./ops/operations.ts";
import { RefStore } from "./refs/ref-store.ts";
import { requireRemappedSnapshots } from "./remap/require-remapped-snapshots.ts";
import type { UserRemap } from "./remap/user-remap.ts";
import { encodeError } from "./rpc/error-details.ts";
import { encodeProgress } from "./rpc/stored-progress.ts";
import type { SessionManager } from "./session/session-manager.ts";
import { Slots } from "./slots.ts";
import { openSnapshotter } from "./snapshots/open-snapshotter.ts";
import { decisionLog } from "./solver/decision-log.ts";
import { Scheduler } from "./solver/scheduler.ts";
import type { TraceRecorder } from "./traces/recorder.ts";

/** Everything that the RPCs of a worker call. Disposing ends it when its builds have. */
export interface Worker extends AsyncDisposable {
  readonly identity: Identity;
  readonly builds: Builds;
  readonly containers: BuildContainers;
  readonly images: ImageStore;
  readonly refs: RefStore;
  readonly content: ContentStore;
  readonly exporters: Readonly<Record<string, ExporterKind>>;
  readonly defaultPlatform: Platform;
  readonly usage: CacheUsage;
  readonly collector: Collector;
  readonly removals: RemovalLog;
  readonly history: BuildHistory;
  /** Undefined if steps have no devices. */
  readonly devices: DeviceRegistry | undefined;
}

export interface WorkerPeers extends Pick<Peers, "snapshotterAddress" | "resolverAddress"> {
  readonly sessions: SessionManager;
  readonly traces: TraceRecorder;
  readonly metrics: WorkerMetrics;
  readonly keyTexts: KeyTexts;
}

/** What was found on this machine for steps to run with. */
export interface StepGround {
  /** Path of the container runtime. */
  readonly runtime: string;
  /** Which network steps are to have. */
  readonly networkPlan: NetworkPlan;
  /** By which they are labelled; undefined for no labels. */
  readonly selinux: SelinuxPolicy | undefined;
  /** What their ids are on the host; undefined: the same. */
  readonly remap: UserRemap | undefined;
}

/** A service beside us that restarts is waited for so long, instead of failing a build. */
const peerPatienceMs = 60_000;

/**
 * Opens the worker on its root: content, cache, executor; what a killed one has left is cleaned up.
 *
 * @throws {UnavailableError} if the snapshotter does not answer.
 * @throws {FailedPreconditionError} if it is another client's.
 */
export async function openWorker(
  config: Config,
  { runtime, networkPlan, selinux, remap }: StepGround,
  peers: WorkerPeers,
  log: Logger,
): Promise<Worker> {
  await using undo = new AsyncDisposableStack();
  const { root } = config;
  const runc = new Runc({
    binary: runtime,
    stateDirectory: join(root, "runc"),
  });
  const { networks, resolved: network } = undo.use(
    await openNetworks({
      plan: networkPlan,
      settings: config,
      directory: join(root, "net"),
      dns: config.dns,
      userNamespace: remap?.namespacePath,
      log,
    }),
  );
  const executor = new Executor({
    directory: join(root, "executor"),
    runc,
    networks,
    dns: config.dns,
    syncsOnCommit: config.proxySnapshotterPath === undefined,
    apparmorProfile: config.apparmorProfile,
    selinux,
    isRootless: config.isRootless,
    sharesProcesses: config.noProcessSandbox,
    remap,
    traceSocketPath: config.traceSocketPath,
    log,
  });
  await executor.recover();

  const { snapshotter, backend } = undo.use(
    await openSnapshotter({ address: peers.snapshotterAddress, name: config.snapshotter }),
  );
  const content = await ContentStore.open(join(root, "content"));
  const cache = undo.use(await openCache({ root, settings: config, snapshotter, content, log }));
  const { database, records, results } = cache;
  const mountDirectory = join(root, "mounts");
  await mkdir(mountDirectory, { recursive: true, mode: 0o700 });
  const refs = new RefStore({ snapshotter, records, mountDirectory, log });
  await refs.recover(cache.leftovers);
  const layerBlobs = new LayerBlobTable(database);
  const cacheMounts = new CacheMounts({
    database,
    records,
    snapshotter,
    mountDirectory,
    owners: remap?.owners,
  });
  if (remap !== undefined) {
    await requireRemappedSnapshots({ snapshotter, backend, owners: remap.owners, mountDirectory });
    log.info({ user: config.remapUser, uids: remap.uids, gids: remap.gids }, "steps are remapped");
  }

  const { maxRegistryConcurrency } = config;
  const registry = undo.use(new RegistryClient({ maxBlobsPerHost: maxRegistryConcurrency }));
  const resolver = undo.use(unixChannel(peers.resolverAddress, { patienceMs: peerPatienceMs }));
  const images = new ImageStore({
    sources: new SourceClient(resolver),
    registry,
    content,
    records,
    unpacker: new Unpacker({
      snapshotter,
      records,
      content,
      layerBlobs,
      mountDirectory,
      isLazy: backend === "stargz",
      maxFetches: maxRegistryConcurrency,
      log,
    }),
    sessions: peers.sessions,
    log,
  });
  const devices = await openDevices(config, log);
  const identity = await identify({ ...config, snapshotter: backend, network, log });
  const defaultPlatform = config.platforms[0] ?? hostPlatform;
  const operationParts = {
    refs,
    cacheMounts,
    sessions: peers.sessions,
    executor,
    devices,
    images,
    defaultPlatform,
    slots: config.maxParallelism === 0 ? undefined : new Slots(config.maxParallelism),
    logLimits: { maxBytes: config.stepLogMaxBytes, maxBytesPerSecond: config.stepLogMaxBytesPerSecond },
    echoLog: config.echoesSteps ? log : undefined,
    defaultCgroupParent: config.defaultCgroupParent,
  };
  const { sessions, traces, metrics, keyTexts } = peers;
  const { usage, collector, removals } = cache;
  results.onKey = (key, text, description) => keyTexts.note({ key, text, description });
  results.onLookup = (isThere) => metrics.countLookup(isThere);
  const operations = metrics.operations((vertex) => operationOf(vertex, operationParts));
  const tellOf = decisionLog({ log, ofAll: config.logsDecisions, ofNames: config.logsDecisionsOf });
  const scheduler = new Scheduler(operations, results, tellOf);
  const table = undo.use(new BuildTable(join(root, "history.db")));
  const { historyMaxAge: maxAgeMs, historyMaxEntries: maxEntries } = config;
  const history = undo.use(
    new BuildHistory({ table, content, records, encodeProgress, encodeError, maxAgeMs, maxEntries, log }),
  );
  await history.forgetOld();
  const builds = undo.use(
    new Builds({
      scheduler,
      sessions,
      records,
      metrics,
      history,
      traces,
      entitlements: config.entitlements,
      proxyNetwork: config.proxyNetwork,
      grantDevices: (graph, entitlements) => grantDevices(graph, entitlements, devices, log),
      onEnd: () => collector.request(),
    }),
  );
  const containers = new BuildContainers({ builds, containers: operationParts, records, log });
  collector.request();
  const owned = undo.move();
  return {
    identity,
    images,
    refs,
    content,
    defaultPlatform,
    builds,
    containers,
    usage,
    collector,
    removals,
    history,
    devices,
    exporters: exporterKinds({
      refs,
      records,
      content,
      images,
      layerBlobs,
      platform: defaultPlatform,
      directory: content.scratchDirectory,
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The registry of the devices of this machine, once it has told what is wrong with their specifications. */
async function openDevices(config: Config, log: Logger): Promise<DeviceRegistry | undefined> {
  if (config.cdiDisabled) {
    return undefined;
  }
  const registry = new DeviceRegistry({
    directories: config.cdiSpecDirs,
    autoAllowed: config.cdiAutoAllowed,
    log,
  });
  await registry.read();
  return registry;
}
