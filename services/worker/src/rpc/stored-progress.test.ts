import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { DataLossError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import type { ProgressEvent } from "../solver/progress.ts";
import { decodeProgress, encodeProgress } from "./stored-progress.ts";

const vertex = digestOf("vertex");
const { signal } = new AbortController();

test("the progress of a build is read back as it was stored, and one cut short is told", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "progress-"));
  const path = join(directory.path, "blob");
  const timestamp = new Date(1_700_000_000_123);
  const events = Array.from({ length: 2500 }, (_, index): ProgressEvent => {
    const data = Buffer.alloc(1000, String(index % 10));
    return { kind: "log", log: { vertex, stream: 1, data, timestamp } };
  });
  const blob = encodeProgress(events);
  await writeFile(path, blob);
  const messages = await Array.fromAsync(decodeProgress(path, signal));
  const logs = messages.flatMap((message) => message.logs);
  assert.deepEqual(
    logs.map(({ msg }) => Buffer.from(msg)),
    events.map((event) => (event.kind === "log" ? event.log.data : undefined)),
  );
  assert(
    messages.every((message) => message.logs.reduce((sum, { msg }) => sum + msg.length, 0) <= 1024 * 1024),
  );
  await writeFile(path, blob.subarray(0, blob.length - 1));
  await assert.rejects(Array.fromAsync(decodeProgress(path, signal)), DataLossError);
  await writeFile(path, encodeProgress([]));
  assert.deepEqual(await Array.fromAsync(decodeProgress(path, signal)), []);
});
