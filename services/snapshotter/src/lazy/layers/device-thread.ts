// A thread that serves a FUSE device. It blocks in the kernel and never comes to its event loop.
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { DataLossError } from "@oci-worker/errdefs";
import { refuseAll } from "@oci-worker/fuse/refuse-all";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { BlobFiles } from "../device/blob-files.ts";
import { LayerTrees } from "../device/layer-trees.ts";
import type { MissedRead } from "../device/missed-read.ts";
import { TreeFileSystem } from "../kernel/tree-file-system.ts";
import type { DeviceThreadData, FromDevice, ToDevice } from "./messages.ts";

/** Different things that are thrown at requests and told of. */
const maxTold = 100;

const { device, fetcher, stopped, refuseUntilMs } = workerData as DeviceThreadData;
const tell = (message: FromDevice) => fetcher.postMessage(message);
const onMiss = (missed: MissedRead) => tell({ missed });
const onDamaged = (layer: number, { message }: Error) => tell({ damaged: { layer, message } });
const layers =
  device.kind === "blobs"
    ? new BlobFiles({ onMiss })
    : new LayerTrees(device.recordsPath, { onMiss, onDamaged });
const files = layers instanceof BlobFiles ? layers : treesOf(layers);
const isStopped = () => Atomics.load(stopped, 0) === 1;
const told = new Set<string>();

if (refuseUntilMs === undefined) {
  serveFileSystem(device.fd, files, { isStopped, beforeRequest: takeNews, onFailure: tellOnce });
} else {
  serveFileSystem(device.fd, refuseAll("threads that serve lazy layers die again and again"), {
    isStopped: () => isStopped() || Date.now() >= refuseUntilMs,
  });
}

function treesOf(trees: LayerTrees): TreeFileSystem {
  return new TreeFileSystem({
    findTree: (number) => trees.find(number),
    onInterrupt: (interrupted) => tell({ interrupted }),
  });
}

/** A layer that is damaged is told of where that is found out. */
function tellOnce(error: unknown): void {
  const thrown = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (!(error instanceof DataLossError || told.has(thrown)) && told.size < maxTold) {
    told.add(thrown);
    tell({ thrown });
  }
}

/** Layers that have come and gone since the last request. */
function takeNews(): void {
  for (let news = receiveMessageOnPort(fetcher); news !== undefined; news = receiveMessageOnPort(fetcher)) {
    const message = news.message as ToDevice;
    if ("added" in message) {
      layers.add(message.added);
    } else {
      layers.remove(message.removed);
    }
  }
}
