import { join } from "node:path";
import { lockRoot } from "@oci-worker/daemon/lock-root";
import { createLog } from "@oci-worker/daemon/log";
import { notifyManager, passedSockets } from "@oci-worker/daemon/service-manager";
import { untilSignal } from "@oci-worker/daemon/until-signal";
import { KeyTexts } from "./cache/key-texts.ts";
import { openPeers, requireNamedSnapshotter } from "./children/children.ts";
import type { Instructions } from "./config/read-config.ts";
import { type Phase, serveDebug } from "./debug/debug-server.ts";
import { WorkerMetrics } from "./debug/worker-metrics.ts";
import { requireAppArmor } from "./executor/apparmor.ts";
import { requireRuntime } from "./executor/find-runtime.ts";
import { readSelinuxPolicy } from "./executor/selinux/policy.ts";
import { listenAddresses } from "./listen-addresses.ts";
import { planNetworks } from "./network/plan.ts";
import { openUserRemap } from "./remap/open-user-remap.ts";
import { serveSessions, serveTraces, serveWorker } from "./server.ts";
import { SessionManager } from "./session/session-manager.ts";
import { SpanForwarder } from "./traces/forwarding/span-forwarder.ts";
import { TraceRecorder } from "./traces/recorder.ts";
import { ownResource } from "./traces/resource.ts";
import { openWorker } from "./worker.ts";

/**
 * Runs a worker until it is asked to end.
 *
 * Whatever its settings and the machine do not agree on is found before anything is made.
 */
export async function runWorker({ config, registry, tracing, warnings }: Instructions): Promise<void> {
  const log = createLog("worker", config.logLevel, config.logFormat);
  for (const what of warnings) {
    log.warn({ what }, "setting is not as it should be");
  }
  const runtime = await requireRuntime(config.enabled, config.runtimeBinary);
  await requireAppArmor(config.apparmorProfile);
  const selinux = config.selinux ? await readSelinuxPolicy() : undefined;
  await requireNamedSnapshotter(config);
  using remap = await openUserRemap(config);
  const networkPlan = await planNetworks(config, process.env);
  const stopped = untilSignal(log);
  const addresses = await listenAddresses(config, passedSockets(process.env), log);
  const metrics = new WorkerMetrics();
  let phase: Phase = "starting";
  using keyTexts = new KeyTexts(log);
  await using _debug = await serveDebug({
    address: config.debugAddress,
    phase: () => phase,
    metrics: () => metrics.render(),
    keyTexts,
    log,
  });

  await using _lock = await lockRoot(config.root, "buildkitd.lock");
  await remap?.admitTo(config.root);
  const sessions = new SessionManager(log);
  metrics.watchSessions(() => sessions.live().length);
  await using _sessionServer = await serveSessions(addresses.sessions, sessions, log);
  const { collector, resourceAttributes } = tracing;
  await using forwarder = collector && new SpanForwarder(collector, log);
  if (collector !== undefined && forwarder !== undefined) {
    log.info({ collector: collector.place.text, protocol: collector.protocol }, "spans go to a collector");
    metrics.watchSpans(forwarder);
  }
  const traces = new TraceRecorder({
    resource: ownResource(resourceAttributes),
    ...(forwarder && { forwarder }),
  });
  await using _traceServer = await serveTraces(config.traceSocketPath, traces, log);
  await using peers = await openPeers(config, registry, log);
  if (config.savesKeyTexts) {
    keyTexts.open(join(config.root, "cache-debug.db"));
  }
  await using worker = await openWorker(
    config,
    { runtime, networkPlan, selinux, remap },
    { ...peers, sessions, traces, metrics, keyTexts },
    log,
  );
  await using _server = await serveWorker(addresses.control, worker, {
    sessions,
    traces,
    stopTimeoutMs: config.stopTimeout,
    metrics,
    log,
  });
  const { id, labels } = worker.identity;
  log.info({ addresses: config.addresses, root: config.root, workerID: id, labels }, "serving");
  phase = "serving";
  notifyManager("READY=1", log);

  log.info({ signal: await stopped }, "stopping");
  phase = "stopping";
  notifyManager("STOPPING=1", log);
}
