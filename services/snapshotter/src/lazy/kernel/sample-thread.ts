// Serves a device of a layer mounter in a worker thread, for tests.
import { parentPort, workerData } from "node:worker_threads";
import { resendUnanswered } from "@oci-worker/fuse/device";
import { serveFileSystem } from "@oci-worker/fuse/serve";
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
serveFileSystem(device.fd, new SampleBlobs(layers, data));
