// Serves a probe in a worker thread.
import { readFileSync } from "node:fs";
import { workerData } from "node:worker_threads";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { ProbeFileSystem, type ProbeServerData, probeTree, readProbeDevice } from "./probe-file-system.ts";
import { TreeFileSystem } from "./tree-file-system.ts";

const { fd, metaPath } = workerData as ProbeServerData;
serveFileSystem(fd, metaPath === undefined ? new ProbeFileSystem() : treesOf(metaPath));

function treesOf(path: string): TreeFileSystem {
  const tree = { image: new ErofsImage(readFileSync(path)), read: readProbeDevice };
  return new TreeFileSystem({
    findTree: (number) => (number === probeTree ? tree : undefined),
    onInterrupt: () => undefined,
  });
}
