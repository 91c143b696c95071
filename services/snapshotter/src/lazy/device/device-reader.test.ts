import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempDisposable, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { readPassing } from "@oci-worker/libc/descriptor";
import { DeviceReader, missing } from "./device-reader.ts";
import { type SharedLayer, shareLayer } from "./shared-layer.ts";

const run = promisify(execFile);

const mebibyte = 1024 * 1024;

/** A layer of one chunk that is there and has been checked, of which the kernel has nothing in memory. */
async function layerOnDisk(sizeBytes: number) {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "device-reader-")));
  const dataPath = join(path, "data");
  const content = randomBytes(sizeBytes);
  const file = undo.use(await open(dataPath, "w+"));
  await file.writeFile(content);
  await file.sync();
  // What is not on the disk cannot be dropped.
  await run("dd", [`of=${dataPath}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
  const clock = new Float64Array(new SharedArrayBuffer(8));
  const layer = shareLayer({ number: 1, dataPath, deviceBytes: sizeBytes, clock }, [{ start: 0, sizeBytes }]);
  Atomics.or(layer.verified, 0, 1);
  // Of another file: what is read so is not as other content in memory.
  const other = undo.use(await open(join(path, "other"), "w+"));
  const canPass = readPassing(other.fd, Buffer.alloc(1), 1, 0) === 0;
  const owned = undo.move();
  return { layer, content, canPass, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** How much of the layer's file the kernel has in memory. */
async function keptBytes({ dataPath }: SharedLayer): Promise<number> {
  const { stdout } = await run("fincore", ["--bytes", "--noheadings", "--output", "RES", dataPath]);
  return Number(stdout);
}

describe("DeviceReader", () => {
  test("reads in a row, and has the kernel keep none of it a second time where that can be", async () => {
    await using scene = await layerOnDisk(8 * mebibyte);
    const { layer, content, canPass } = scene;
    using reader = new DeviceReader(layer);
    const reply = Buffer.alloc(16 + mebibyte);
    for (let offset = 0; offset < content.length; offset += mebibyte) {
      assert.equal(reader.read(offset, mebibyte, reply, 16), mebibyte);
      assert(reply.subarray(16).equals(content.subarray(offset, offset + mebibyte)));
    }
    const kept = await keptBytes(layer);
    assert.equal(kept > content.length / 2, !canPass, `${kept} bytes are in memory`);
  });

  test("has the kernel keep what is read in pieces", async () => {
    await using scene = await layerOnDisk(mebibyte);
    const { layer, content } = scene;
    using reader = new DeviceReader(layer);
    const reply = Buffer.alloc(4096);
    for (let offset = 0; offset < content.length; offset += 4096) {
      assert.equal(reader.read(offset, 4096, reply, 0), 4096);
      assert(reply.equals(content.subarray(offset, offset + 4096)));
    }
    assert((await keptBytes(layer)) > content.length / 2);
  });

  test("gives up to the end of the device, and nothing of what has not been checked", async () => {
    await using scene = await layerOnDisk(mebibyte - 100);
    const { layer, content } = scene;
    using reader = new DeviceReader(layer);
    const reply = Buffer.alloc(mebibyte);
    assert.equal(reader.read(0, mebibyte, reply, 0), content.length);
    assert.equal(reader.read(content.length, 4096, reply, 0), 0);
    Atomics.and(layer.verified, 0, 0);
    assert.equal(reader.read(0, mebibyte, reply, 0), missing);
  });
});
