// The worker thread that makes one socket in a name space that it cannot leave again: see open-socket.ts.
import { parentPort, workerData } from "node:worker_threads";
import { enterNetworkNamespace } from "@oci-worker/libc/network-namespace";
import { makeSocket } from "./make-socket.ts";
import type { SocketOutcome, SocketTask } from "./open-socket.ts";

function run({ namespacePath, use }: SocketTask): SocketOutcome {
  try {
    enterNetworkNamespace(namespacePath);
    return { kind: "made", fd: makeSocket(use) };
  } catch (error) {
    return { kind: "failed", why: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.postMessage(run(workerData as SocketTask));
