// A thread that serves a FUSE device. It blocks in the kernel and never comes to its event loop.
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { BlobFiles } from "../device/blob-files.ts";
import { LayerTrees } from "../device/layer-trees.ts";
import type { MissedRead } from "../device/missed-read.ts";
import { TreeFileSystem } from "../kernel/tree-file-system.ts";
import type { DeviceThreadData, FromDevice, ToDevice } from "./messages.ts";

const { device, fetcher, stopped } = workerData as DeviceThreadData;
const tell = (message: FromDevice) => fetcher.postMessage(message);
const onMiss = (missed: MissedRead) => tell({ missed });
const onDamaged = (layer: number, { message }: Error) => tell({ damaged: { layer, message } });
const layers =
  device.kind === "blobs"
    ? new BlobFiles({ onMiss })
    : new LayerTrees(device.recordsPath, { onMiss, onDamaged });
const files = layers instanceof BlobFiles ? layers : treesOf(layers);

serveFileSystem(device.fd, files, {
  isStopped: () => Atomics.load(stopped, 0) === 1,
  beforeRequest: takeNews,
});

function treesOf(trees: LayerTrees): TreeFileSystem {
  return new TreeFileSystem({
    findTree: (number) => trees.find(number),
    onInterrupt: (interrupted) => tell({ interrupted }),
  });
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
