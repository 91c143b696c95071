import { closeSync, constants, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { ServiceError } from "@oci-worker/errdefs";
import { syncfs } from "@oci-worker/libc/file";
import { copyTree } from "./copy-tree.ts";
import { failureOf, type TreeFailure, type TreeJob, type TreeJobs, type TreeReply } from "./jobs.ts";
import { measureTree } from "./measure-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { makeSpareDirectories } from "./spare-directories.ts";

/** One number, not 0 once the current job is to be given up. */
const canceled = new Int32Array(workerData as SharedArrayBuffer);

parentPort?.on("message", (job: TreeJob) => {
  parentPort?.postMessage(replyTo(job));
});

function replyTo(job: TreeJob): TreeReply {
  try {
    return { result: run(job) };
  } catch (error) {
    return { failure: failureOf(error) };
  }
}

function run(job: TreeJob): TreeJobs[TreeJob["kind"]]["result"] {
  switch (job.kind) {
    case "measure": {
      const options = { maxEntries: Number.POSITIVE_INFINITY, onDirectory: throwIfCanceled };
      return measureTree(job.path, options) ?? { inodes: 0n, sizeBytes: 0n };
    }
    case "remove":
      return job.paths.map(failureToRemove);
    case "copy":
      return copyTree(job.from, job.to, job.part, throwIfCanceled);
    case "spare":
      makeSpareDirectories(job.directory, job.ids);
      return undefined;
    case "sync":
      syncFileSystem(job.path);
      return undefined;
  }
}

/** One directory that cannot be deleted does not keep the others. */
function failureToRemove(path: string): TreeFailure | undefined {
  try {
    removeTree(path, throwIfCanceled);
    return undefined;
  } catch (error) {
    return failureOf(error);
  }
}

function throwIfCanceled(): void {
  if (Atomics.load(canceled, 0) !== 0) {
    throw new ServiceError("CANCELED", "the caller has given up");
  }
}

function syncFileSystem(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    syncfs(fd);
  } finally {
    closeSync(fd);
  }
}
