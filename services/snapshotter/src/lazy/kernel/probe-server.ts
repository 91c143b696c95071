// Serves a probe in a worker thread.
import { readFileSync } from "node:fs";
import { workerData } from "node:worker_threads";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { ImageFileSystem } from "./image-file-system.ts";
import { ProbeFileSystem, type ProbeServerData, readProbeDevice } from "./probe-file-system.ts";

const { fd, metaPath } = workerData as ProbeServerData;
const fileSystem =
  metaPath === undefined
    ? new ProbeFileSystem()
    : new ImageFileSystem(new ErofsImage(readFileSync(metaPath)), {
        read: readProbeDevice,
        onInterrupt: () => undefined,
      });
serveFileSystem(fd, fileSystem);
