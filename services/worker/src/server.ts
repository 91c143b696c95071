import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { Control } from "@oci-worker/api/buildkit/control";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { Content } from "@oci-worker/api/containerd/content";
import { SessionAuthService } from "@oci-worker/api/ociworker/session";
import { CacheService } from "@oci-worker/api/ociworker/worker";
import { TraceService } from "@oci-worker/api/opentelemetry/trace-service";
import { refuseOtherUsers } from "@oci-worker/daemon/peer";
import { HealthService } from "@oci-worker/grpc/health";
import { logCalls } from "@oci-worker/grpc/log-calls";
import { logConnections } from "@oci-worker/grpc/log-connections";
import { implement } from "@oci-worker/grpc/router";
import { type GrpcServer, type ListenAddress, serve } from "@oci-worker/grpc/serve";
import type { Logger } from "pino";
import type { WorkerMetrics } from "./debug/worker-metrics.ts";
import { contentService } from "./rpc/content.ts";
import { controlService } from "./rpc/control.ts";
import { llbBridgeService } from "./rpc/llb-bridge.ts";
import { removalsService } from "./rpc/removals.ts";
import { sessionAuthService } from "./rpc/session-auth.ts";
import { tracesService } from "./rpc/traces.ts";
import type { SessionManager } from "./session/session-manager.ts";
import type { TraceRecorder } from "./traces/recorder.ts";
import type { Worker } from "./worker.ts";

/** Calls in flight may go on so long when the builds have ended. Those that are left then are of clients that look on. */
const drainTimeoutMs = 5000;

/** Anybody in a step may tell what it has done; the directory of the socket keeps out the rest of the machine. */
const traceSocketMode = 0o666;

/** Programs send their spans every few seconds. More than this in one message is no span. */
const maxSpansBytes = 4 * 1024 * 1024;

interface ServerParts {
  readonly sessions: SessionManager;
  readonly traces: TraceRecorder;
  /** How long builds may go on when the server is disposed of, in milliseconds. */
  readonly stopTimeoutMs: number;
  readonly metrics: Pick<WorkerMetrics, "observeCall">;
  readonly log: Logger;
}

/** Serves the Control API and what belongs to it, to whoever may connect. */
export async function serveWorker(
  addresses: readonly ListenAddress[],
  worker: Worker,
  { sessions, traces, stopTimeoutMs, metrics, log }: ServerParts,
): Promise<AsyncDisposable> {
  for (const address of addresses) {
    if ("path" in address) {
      // As buildkitd has it. Who may connect is for the socket's own mode to say.
      await mkdir(dirname(address.path), { recursive: true, mode: 0o755 });
    }
  }
  const services = [Control, LLBBridge, Content, CacheService, TraceService];
  const health = new HealthService(services.map(({ typeName }) => typeName));
  const logCall = logCalls(log);
  const server = await serve({
    addresses,
    implementations: [
      implement(Control, controlService({ ...worker, sessions })),
      implement(LLBBridge, llbBridgeService(worker)),
      implement(Content, contentService(worker.content)),
      implement(CacheService, removalsService(worker.removals)),
      implement(TraceService, tracesService(traces)),
      health.implementation,
    ],
    observe: (call, thrown) => {
      metrics.observeCall(call, thrown);
      logCall(call, thrown);
    },
    observeConnection: logConnections(log),
    drainTimeoutMs,
  });
  return {
    [Symbol.asyncDispose]: async () => {
      health.stop();
      // Clients that drive a build go on calling, so the connections stay open until the builds have ended.
      await worker.builds.stop(stopTimeoutMs);
      await worker.history[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Serves the credentials of attached clients to the resolver alone. */
export function serveSessions(
  addresses: readonly ListenAddress[],
  sessions: SessionManager,
  log: Logger,
): Promise<GrpcServer> {
  return serve({
    addresses,
    implementations: [implement(SessionAuthService, sessionAuthService(sessions))],
    observe: logCalls(log),
    observeConnection: logConnections(log),
    refuse: refuseOtherUsers,
  });
}

/** Takes what the processes of steps tell of what they do, on a socket that is shown to them. */
export async function serveTraces(path: string, traces: TraceRecorder, log: Logger): Promise<GrpcServer> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  return await serve({
    addresses: [{ path, mode: traceSocketMode }],
    implementations: [implement(TraceService, tracesService(traces))],
    observe: logCalls(log),
    observeConnection: logConnections(log),
    maxMessageBytes: maxSpansBytes,
    drainTimeoutMs: 0,
  });
}
