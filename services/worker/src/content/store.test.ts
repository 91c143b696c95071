import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { DataLossError, NotFoundError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { ContentStore } from "./store.ts";

const unaborted = new AbortController().signal;
const ignore = () => undefined;

async function fixture() {
  const directory = await mkdtempDisposable(join(tmpdir(), "content-"));
  const root = join(directory.path, "content");
  const store = await ContentStore.open(root);
  return { store, root, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

async function* chunks(bytes: Buffer, size = 7): AsyncGenerator<Buffer> {
  for (let offset = 0; offset < bytes.length; offset += size) {
    yield bytes.subarray(offset, offset + size);
  }
}

const blob = Buffer.from("the content of a layer, in a few chunks");
const expected = { digest: digestOf(blob), sizeBytes: blob.length };

describe("a content store", () => {
  test("keeps a blob under its digest, and tells how far it is", async () => {
    await using on = await fixture();
    const progress: number[] = [];
    await on.store.write(
      expected,
      async () => chunks(blob),
      (bytes) => progress.push(bytes),
      unaborted,
    );
    assert.deepEqual(await on.store.read(expected.digest, 1000), blob);
    assert.equal((await on.store.info(expected.digest))?.sizeBytes, blob.length);
    assert.equal(progress.at(-1), blob.length);
    assert.deepEqual(await readdir(join(on.root, "ingest")), []);
    const listed = await Array.fromAsync(on.store.list());
    assert.deepEqual(
      listed.map(({ digest }) => digest),
      [expected.digest],
    );
  });

  test("has nobody find a blob that is being deleted, and takes it in again after that", async () => {
    await using on = await fixture();
    await on.store.write(expected, async () => chunks(blob), ignore, unaborted);
    const deletion = on.store.delete(expected.digest);
    let fetches = 0;
    const source = async () => {
      fetches += 1;
      return chunks(blob);
    };
    await Promise.all([on.store.write(expected, source, ignore, unaborted), deletion]);
    assert.equal(fetches, 1);
    assert.deepEqual(await on.store.read(expected.digest, 1000), blob);
  });

  test("does not fetch what is there", async () => {
    await using on = await fixture();
    await on.store.write(expected, async () => chunks(blob), ignore, unaborted);
    const source = () => assert.fail("asked for a blob that is there");
    await on.store.write(expected, source, ignore, unaborted);
  });

  const lies = [
    {
      name: "other bytes of the same size",
      content: Buffer.alloc(blob.length, "x"),
      message: /the digest sha256:/,
    },
    { name: "fewer bytes", content: blob.subarray(0, 20), message: /got 20 bytes, want 39/ },
    { name: "more bytes", content: Buffer.concat([blob, blob]), message: /more than those bytes, want 39/ },
  ];
  for (const { name, content, message } of lies) {
    test(`refuses ${name} and keeps none of them`, async () => {
      await using on = await fixture();
      await assert.rejects(
        on.store.write(expected, async () => chunks(content), ignore, unaborted),
        (error) => {
          assert(error instanceof DataLossError);
          assert.match(error.message, message);
          return true;
        },
      );
      assert.equal(await on.store.info(expected.digest), undefined);
      assert.deepEqual(await readdir(join(on.root, "ingest")), []);
    });
  }

  test("goes on where a transfer has broken off, also in another process", async () => {
    await using on = await fixture();
    async function* breaking() {
      yield blob.subarray(0, 10);
      throw new Error("connection reset");
    }
    await assert.rejects(
      on.store.write(expected, async () => breaking(), ignore, unaborted),
      /connection reset/,
    );
    const restarted = await ContentStore.open(on.root);
    const offsets: number[] = [];
    const source = async (offset: number) => {
      offsets.push(offset);
      return chunks(blob.subarray(offset));
    };
    await restarted.write(expected, source, ignore, unaborted);
    assert.deepEqual(offsets, [10]);
    assert.deepEqual(await restarted.read(expected.digest, 1000), blob);
  });

  test("goes on with a blob that is at hand where an attempt before has ended, however far it was", async () => {
    for (const left of [1, blob.length - 1, blob.length]) {
      await using on = await fixture();
      // As a disk without room leaves it; a killed process does so of a transfer.
      await writeFile(join(on.root, "ingest", `${expected.digest.slice(7)}.local`), blob.subarray(0, left));
      await on.store.writeBytes(expected.digest, blob, unaborted);
      assert.deepEqual(await on.store.read(expected.digest, 1000), blob);
      assert.deepEqual(await readdir(join(on.root, "ingest")), []);
    }
  });

  test("forgets what was left of a transfer for more than a day", async () => {
    await using on = await fixture();
    const left = join(on.root, "ingest", expected.digest.slice(7));
    await writeFile(left, blob.subarray(0, 10));
    await ContentStore.open(on.root);
    assert.deepEqual(await readFile(left), blob.subarray(0, 10));
    const dayBeforeYesterday = Date.now() / 1000 - 2 * 24 * 60 * 60;
    await utimes(left, dayBeforeYesterday, dayBeforeYesterday);
    await ContentStore.open(on.root);
    await assert.rejects(readFile(left), { code: "ENOENT" });
  });

  test("forgets at once what is left of a blob that was made here", async () => {
    await using on = await fixture();
    const breaking = async function* () {
      yield blob.subarray(0, 5);
      throw new Error("broken off");
    };
    const local = { ...expected, isLocal: true };
    await assert.rejects(
      on.store.write(local, async () => breaking(), ignore, unaborted),
      /broken off/,
    );
    assert.equal((await readdir(join(on.root, "ingest"))).length, 1);
    await ContentStore.open(on.root);
    assert.deepEqual(await readdir(join(on.root, "ingest")), []);
  });

  test("starts anew where what was left of a transfer is wrong", async () => {
    await using on = await fixture();
    await writeFile(join(on.root, "ingest", expected.digest.slice(7)), "garbage");
    const source = async (offset: number) => chunks(blob.subarray(offset));
    await assert.rejects(on.store.write(expected, source, ignore, unaborted), DataLossError);
    await on.store.write(expected, source, ignore, unaborted);
    assert.deepEqual(await readFile(on.store.path(expected.digest)), blob);
  });

  test("fetches a blob once for all who want it at the same time", async () => {
    await using on = await fixture();
    const go = Promise.withResolvers<void>();
    let fetches = 0;
    const source = async () => {
      fetches += 1;
      await go.promise;
      return chunks(blob);
    };
    const canceled = new AbortController();
    const first = on.store.write(expected, source, ignore, canceled.signal);
    const second = on.store.write(expected, source, ignore, unaborted);
    const failed = assert.rejects(first, /not me/);
    canceled.abort(new Error("not me"));
    await failed;
    go.resolve();
    await second;
    assert.equal(fetches, 1);
    assert.deepEqual(await on.store.read(expected.digest, 1000), blob);
  });

  test("stops a transfer that nobody wants any more", async () => {
    await using on = await fixture();
    const stopped = Promise.withResolvers<void>();
    const canceled = new AbortController();
    async function* endless() {
      try {
        for (;;) {
          yield Buffer.alloc(1);
          canceled.abort(new Error("enough"));
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        stopped.resolve();
      }
    }
    const unknownSize = { digest: expected.digest, sizeBytes: undefined };
    await assert.rejects(
      on.store.write(unknownSize, async () => endless(), ignore, canceled.signal),
      /enough/,
    );
    await stopped.promise;
  });

  test("notices what the disk has changed, and reads nothing that is too large", async () => {
    await using on = await fixture();
    await on.store.write(expected, async () => chunks(blob), ignore, unaborted);
    await assert.rejects(on.store.read(expected.digest, 10), ResourceExhaustedError);
    await writeFile(on.store.path(expected.digest), Buffer.alloc(blob.length));
    await assert.rejects(on.store.read(expected.digest, 1000), DataLossError);
    await on.store.delete(expected.digest);
    await assert.rejects(on.store.read(expected.digest, 1000), NotFoundError);
    await on.store.delete(expected.digest);
  });
});
