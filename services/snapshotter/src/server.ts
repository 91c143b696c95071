import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { SnapshotterService } from "@oci-worker/api/ociworker/snapshotter";
import type { PassedSocket } from "@oci-worker/daemon/service-manager";
import { HealthService } from "@oci-worker/grpc/health";
import { logCalls } from "@oci-worker/grpc/log-calls";
import { logConnections } from "@oci-worker/grpc/log-connections";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import type { Inspector } from "./backends/inspector.ts";
import type { Config } from "./config.ts";
import type { Ownership } from "./ownership/ownership.ts";
import { forOneClient } from "./rpc/clients.ts";
import { describeRequest } from "./rpc/describe-request.ts";
import { snapshotsService } from "./rpc/snapshots.ts";
import { snapshotterService } from "./rpc/snapshotter.ts";

/** Whoever may connect can have any directory mounted, so may do what root may. */
const socketMode = 0o660;

/** Others may pass through the directory of the sockets and not look around. */
const socketDirectoryMode = 0o711;

export interface ServerOptions extends Pick<Config, "address" | "drainTimeoutMs"> {
  /** Sockets that somebody has made for us, which are served in place of `address`. */
  readonly sockets?: readonly PassedSocket[];
  /** Whose the snapshots are; absent: anybody may change them. */
  readonly ownership?: Ownership;
  /** What says why the snapshotter is as it is; absent: nobody is told. */
  readonly inspector?: Inspector;
}

/**
 * Serves `snapshotter`, and its health, on its socket. Disposing drains: health says so, calls in flight
 * end, new ones are refused.
 *
 * @throws {FailedPreconditionError} if another process serves that socket.
 */
export async function serveSnapshotter(
  { address, sockets = [], ownership, inspector, drainTimeoutMs }: ServerOptions,
  snapshotter: Snapshotter,
  log: Logger,
): Promise<AsyncDisposable> {
  if (sockets.length === 0) {
    await mkdir(dirname(address), { recursive: true, mode: socketDirectoryMode });
  }
  const explained =
    inspector === undefined ? [] : [implement(SnapshotterService, snapshotterService(inspector))];
  const health = new HealthService([
    Snapshots.typeName,
    ...(inspector === undefined ? [] : [SnapshotterService.typeName]),
  ]);
  const handlers = snapshotsService(snapshotter);
  const snapshots = implement(
    Snapshots,
    ownership === undefined ? handlers : forOneClient(handlers, ownership),
  );
  const server = await serve({
    implementations: [snapshots, ...explained, health.implementation],
    observe: logCalls(log, describeRequest),
    observeConnection: logConnections(log),
    addresses: sockets.length > 0 ? sockets : [{ path: address, mode: socketMode }],
    drainTimeoutMs,
  });
  return {
    async [Symbol.asyncDispose]() {
      health.stop();
      await server[Symbol.asyncDispose]();
    },
  };
}
