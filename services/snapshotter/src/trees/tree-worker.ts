import { parentPort, workerData } from "node:worker_threads";
import { ServiceError } from "@oci-worker/errdefs";
import { setIOPriority } from "@oci-worker/libc/process";
import { syncFileSystem } from "../backends/directory-sync.ts";
import { copyTree } from "./copy-tree.ts";
import { canceledFlag, failureOf, loadedFlag, type TreeJob, type TreeJobs, type TreeReply } from "./jobs.ts";
import { measureTree } from "./measure-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { makeSpareDirectories } from "./spare-directories.ts";

const flags = new Int32Array(workerData as SharedArrayBuffer);

/** Thrown to end a deletion that goes on another time. */
const timeIsUp = new Error("time is up");

Atomics.store(flags, loadedFlag, 1);
Atomics.notify(flags, loadedFlag);

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
      return remove(job);
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

function remove({ paths, maxMs, isIdle }: TreeJobs["remove"]["job"]): TreeJobs["remove"]["result"] {
  setIOPriority(isIdle ? "idle" : "none");
  try {
    const endAt = performance.now() + maxMs;
    return paths.map((path) => removeUntil(path, endAt));
  } finally {
    setIOPriority("none");
  }
}

/** One directory that cannot be deleted does not keep the others. */
function removeUntil(path: string, endAt: number): TreeJobs["remove"]["result"][number] {
  try {
    removeTree(path, () => {
      throwIfCanceled();
      if (performance.now() > endAt) {
        throw timeIsUp;
      }
    });
    return "gone";
  } catch (error) {
    return error === timeIsUp ? "unfinished" : failureOf(error);
  }
}

function throwIfCanceled(): void {
  if (Atomics.load(flags, canceledFlag) !== 0) {
    throw new ServiceError("CANCELED", "the caller has given up");
  }
}
