// Serves the data device of a probe in a worker thread.
import { workerData } from "node:worker_threads";
import { serveFileSystem } from "@oci-worker/fuse/serve";
import { ProbeFileSystem, type ProbeServerData } from "./probe-file-system.ts";

const { fd } = workerData as ProbeServerData;
serveFileSystem(fd, new ProbeFileSystem());
