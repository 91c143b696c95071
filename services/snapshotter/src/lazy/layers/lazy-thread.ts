// The thread that fetches: it has the layers, speaks to the resolver and to registries, and answers what the kernel waits for.
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { DataLossError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { RegistryClient } from "@oci-worker/registry/client";
import { SourceClient } from "@oci-worker/sources/source-client";
import { failureOf } from "../../trees/jobs.ts";
import { WaitingReads } from "../data/waiting-reads.ts";
import { LayerSet } from "./layer-set.ts";
import type {
  FromDevice,
  FromLazyThread,
  LazyCall,
  LazyCalls,
  LazyThreadData,
  ServedBy,
  ToDevice,
  ToLazyThread,
} from "./messages.ts";

const { root, settings, resolverAddress } = workerData as LazyThreadData;

/** Somebody waits for each byte: a host that is silent for so long is left for the next one. */
const timeouts = { connectMs: 5000, headersMs: 10_000, bodyIdleMs: 10_000 };

const channel = unixChannel(resolverAddress);
const registry = new RegistryClient({ timeouts, maxBlobsPerHost: settings.maxConcurrentFetches });
const tell = (message: FromLazyThread) => parentPort?.postMessage(message);
/** By the descriptor of their device. A thread that has died leaves the reads that wait to the one that follows it. */
const served = new Map<number, { readonly reads: WaitingReads; readonly threads: Set<MessagePort> }>();
const layers = new LayerSet({
  root,
  settings,
  sources: new SourceClient(channel),
  registry,
  onAdded: (added) => tellDevices({ added }),
  onComplete: (layer) => tell({ kind: "complete", layer }),
  onRemoved: (removed) => tellDevices({ removed }),
  log: (message, fields) => tell({ kind: "log", message, fields }),
});
const calls = new Map<number, AbortController>();

parentPort?.on("message", (message: ToLazyThread) => {
  if (message.kind === "cancel") {
    calls.get(message.id)?.abort();
    return;
  }
  const { id } = message;
  const canceled = new AbortController();
  calls.set(id, canceled);
  run(message, canceled.signal)
    .then((result) => tell({ kind: "result", id, result }))
    .catch((error: unknown) => tell({ kind: "failure", id, failure: failureOf(error) }))
    .finally(() => calls.delete(id));
});

// All layers that are on disk are known: the kernel may ask for them.
tell({ kind: "ready" });

async function run(call: LazyCall, signal: AbortSignal): Promise<LazyCalls[keyof LazyCalls]["result"]> {
  switch (call.kind) {
    case "open":
      return await layers.open(call.labels, signal);
    case "reopen":
      return layers.reopen(call);
    case "serve":
      serve(call.device);
      return undefined;
    case "unserve":
      unserve(call.fd);
      return undefined;
    case "prefetched":
      await layers.prefetched(call.number);
      return undefined;
    case "useAsDevice":
      return await layers.useAsDevice(call.number);
    case "releaseDevice":
      await layers.releaseDevice(call.number);
      return undefined;
    case "forget":
      await layers.forget(call.number);
      return undefined;
    case "status":
      return layers.status();
    case "firstReads":
      return layers.firstReads(call.number);
    case "stop":
      await stop();
      return undefined;
  }
}

function tellDevices(message: ToDevice): void {
  for (const { threads } of served.values()) {
    for (const thread of threads) {
      thread.postMessage(message);
    }
  }
}

function serve({ fd, thread }: ServedBy): void {
  const { reads, threads } = served.getOrInsertComputed(fd, () => ({
    reads: readsOf(fd),
    threads: new Set(),
  }));
  threads.add(thread);
  thread.on("close", () => threads.delete(thread));
  thread.on("message", (message: FromDevice) => {
    if ("missed" in message) {
      const { missed } = message;
      reads.answer(missed).catch((error: Error) => layers.noteFailure(missed.layer, error));
    } else if ("interrupted" in message) {
      reads.interrupt(message.interrupted);
    } else if ("damaged" in message) {
      const { layer, message: reason } = message.damaged;
      layers.noteFailure(layer, new DataLossError(reason));
    } else {
      tell({
        kind: "log",
        message: "a request to read lazy layers has failed",
        fields: { error: message.thrown },
      });
    }
  });
  for (const added of layers.shared()) {
    thread.postMessage({ added } satisfies ToDevice);
  }
}

function readsOf(fd: number): WaitingReads {
  return new WaitingReads(
    fd,
    (number) => layers.fetcherOf(number),
    (number, error) => layers.noteFailure(number, error),
  );
}

function unserve(fd: number): void {
  const { reads, threads = [] } = served.get(fd) ?? {};
  served.delete(fd);
  reads?.close();
  for (const thread of threads) {
    thread.close();
  }
}

/** What the kernel waits for and we have not got stays for the next process to answer. */
async function stop(): Promise<void> {
  registry[Symbol.dispose]();
  await layers[Symbol.asyncDispose]();
  channel[Symbol.dispose]();
  for (const fd of served.keys()) {
    unserve(fd);
  }
  setImmediate(() => parentPort?.close());
}
