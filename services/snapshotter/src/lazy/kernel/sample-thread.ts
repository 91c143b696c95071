// Serves a device of a layer mounter in a worker thread, for tests.
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { resendUnanswered } from "@oci-worker/fuse/device";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import type { LayerToMount, ServedDevice } from "./layer-mounter.ts";
import { SampleBlobs, SampleData } from "./sample-blobs.ts";
import { type Tree, TreeFileSystem } from "./tree-file-system.ts";
import { readTreeRecord } from "./tree-records.ts";

export interface SampleThreadData {
  readonly device: ServedDevice;
  readonly layers: readonly LayerToMount[];
  readonly isMute: boolean;
}

const { device, layers, isMute } = workerData as SampleThreadData;
const data = new SampleData(layers, isMute, (sizeBytes) => parentPort?.postMessage(sizeBytes));
if (device.isAdopted) {
  resendUnanswered(device.fd);
}
serveFileSystem(
  device.fd,
  device.kind === "blobs" ? new SampleBlobs(layers, data) : sampleTrees(device.recordsPath),
);

function sampleTrees(recordsPath: string): TreeFileSystem {
  const trees = new Map<number, Tree>();
  return new TreeFileSystem({
    findTree: (number) => {
      const record = trees.has(number) ? undefined : readTreeRecord(recordsPath, number);
      if (record !== undefined) {
        const { layerNumber, metaPath } = record;
        trees.set(number, {
          image: new ErofsImage(readFileSync(metaPath)),
          read: (offset, size, reply, at) => data.read(layerNumber, offset, size, reply, at),
        });
      }
      return trees.get(number);
    },
    onInterrupt: () => undefined,
  });
}
