// The worker thread that unpacks one layer and ends: see apply.ts.
import { statSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { DataLossError } from "@oci-worker/errdefs";
import { confineThread } from "@oci-worker/libc/process";
import { BlobReader } from "./blob-reader.ts";
import { failureOf } from "./failure.ts";
import { canceledAt, type Task, type ThreadMessage } from "./messages.ts";
import { Skips } from "./skips.ts";
import { unpackBlob } from "./unpack-blob.ts";
import { Unpacker } from "./unpacker.ts";

/** Ends the work at a checkpoint once the task is canceled. Nobody outside this file sees it. */
class Canceled extends Error {}

async function run(task: Task): Promise<ThreadMessage> {
  const checkpoint = () => {
    if (Atomics.load(task.shared, canceledAt) !== 0) {
      throw new Canceled();
    }
  };
  const skips = new Skips();
  const blob = new BlobReader(task.blobFd);
  using unpacker = new Unpacker(
    { isUserNamespace: task.isUserNamespace, maxBytes: task.maxUnpackedBytes, checkpoint },
    skips,
  );
  try {
    confine(task.directory);
    const archive = await unpackBlob(task, blob, unpacker, checkpoint, (progress) =>
      parentPort?.postMessage({ kind: "progress", progress } satisfies ThreadMessage),
    );
    verifyBlob(task, blob, checkpoint);
    unpacker.finish();
    const { told, count } = skips;
    return {
      kind: "applied",
      applied: { ...archive, entries: unpacker.entries, skipped: told, skippedCount: count },
    };
  } catch (error) {
    return explain(error, () => verifyBlob(task, blob, checkpoint), task, unpacker);
  }
}

/**
 * From here on no path of this thread leads out of `directory`. Everything that is yet needed has been loaded or opened.
 *
 * Were the confinement to fail unnoticed, the layer would be unpacked over the host: hence the second look.
 */
function confine(directory: string): void {
  const wanted = statSync(directory, { bigint: true });
  confineThread(directory);
  for (const path of ["/", "."]) {
    const got = statSync(path, { bigint: true });
    if (got.dev !== wanted.dev || got.ino !== wanted.ino) {
      throw new Error(`the thread is not confined to ${directory}`);
    }
  }
}

function verifyBlob(task: Task, blob: BlobReader, checkpoint: () => void): void {
  const digest = blob.digest(checkpoint);
  if (digest !== task.digest) {
    throw new DataLossError(`its blob has digest ${digest}, want ${task.digest}`);
  }
}

/** A blob that is not what its digest says explains everything else that is wrong, so that is looked at first. */
function explain(error: unknown, verify: () => void, task: Task, unpacker: Unpacker): ThreadMessage {
  if (error instanceof Canceled) {
    return { kind: "canceled" };
  }
  try {
    verify();
  } catch (other) {
    return other instanceof Canceled
      ? { kind: "canceled" }
      : { kind: "failed", failure: failureOf(other, task.digest, undefined) };
  }
  return { kind: "failed", failure: failureOf(error, task.digest, unpacker.current) };
}

parentPort?.postMessage(await run(workerData as Task));
