// Serves a device of a layer mounter in a worker thread, for tests.
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { resendUnanswered } from "@oci-worker/fuse/device";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { ImageFileSystem } from "./image-file-system.ts";
import type { LayerToMount, ServedDevice } from "./layer-mounter.ts";
import { SampleBlobs, SampleData } from "./sample-blobs.ts";

export interface SampleThreadData {
  readonly device: ServedDevice;
  readonly layers: readonly LayerToMount[];
  readonly isMute: boolean;
}

const { device, layers, isMute } = workerData as SampleThreadData;
const data = new SampleData(layers, isMute, () => parentPort?.postMessage("read"));
if (device.isAdopted) {
  resendUnanswered(device.fd);
}
serveFileSystem(
  device.fd,
  device.kind === "blobs"
    ? new SampleBlobs(layers, data)
    : new ImageFileSystem(new ErofsImage(readFileSync(device.metaPath)), {
        read: (offset, size, reply, at) => data.read(device.layerNumber, offset, size, reply, at),
        onInterrupt: () => undefined,
      }),
);
