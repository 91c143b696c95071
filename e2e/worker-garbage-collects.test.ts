import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import type { CacheRecord } from "@oci-worker/client/cache";
import { CanceledError, InvalidArgumentError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import { historyBlobs } from "./peers/history-blobs.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const gigabyte = 1_000_000_000;
const hourNs = 3_600_000_000_000n;
const noGc = "[worker.oci]\ngc = false\n";

/** A worker whose config file says `config`, and a registry with a small image in it. */
async function fixture(config = noGc) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const base = image(await pushTo(registry, await createImage({ files: { "/data": "x".repeat(100_000) } })));
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "worker-"))).path;
  const worker = undo.use(await startWorker({ directory, config }));
  const owned = undo.move();
  return { base, directory, worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function step(root: Tree, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root, args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root;
}

/** Builds `tree`, and gives what its steps have printed: nothing if all of it came from the cache. */
async function build({ client }: WorkerPeer, tree: Tree): Promise<string> {
  const building = client.solve(definitionOf(tree));
  let output = "";
  for await (const { logs } of building.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await building.result;
  return output;
}

async function blobs({ root }: WorkerPeer): Promise<string[]> {
  return (await readdir(join(root, "content/blobs/sha256"))).map((hex) => `sha256:${hex}`).sort();
}

async function rememberedBlobs({ address }: WorkerPeer): Promise<string[]> {
  using channel = unixChannel(address);
  return await historyBlobs(createClient(Control, channel));
}

const madeBy = (script: string) => `mount / from exec sh -c ${script}`;
const descriptions = (records: readonly CacheRecord[]) =>
  records.map(({ description }) => description).sort();

describe("the cache of a worker", () => {
  test("is shown with what each record is, stands on, takes up and was used for", async () => {
    await using on = await fixture();
    const { client } = on.worker;
    const cache = { type: "cache", dest: "/cache", id: "deps", sharing: "shared" } as const;
    const writing = "head -c 300000 /dev/zero > /big; echo x > /cache/x";
    const second = step(step(on.base, writing, { mounts: [cache] }), "echo y > /y");
    await build(on.worker, second);
    await build(on.worker, second);
    const records = await client.diskUsage();
    const find = (description: string) => records.find((record) => record.description === description);
    const [big, small] = [find(madeBy(writing)), find(madeBy("echo y > /y"))];
    const mount = find(`cached mount /cache from exec sh -c ${writing}`);
    const layer = records.find(({ id }) => id === big?.parents[0]);
    const lowest = records.find(({ id }) => id === layer?.parents[0]);
    assert.equal(records.length, 5);
    assert.match(
      lowest?.description ?? "",
      /^pulled from localhost:[0-9]+\/|^pulled from 127\.0\.0\.1:[0-9]+\//,
    );
    assert.equal(layer?.description, lowest?.description);
    assert.deepEqual([big?.parents, small?.parents], [[layer?.id], [big?.id]]);
    assert.deepEqual(
      [mount?.type, mount?.mutable, small?.type, small?.mutable],
      ["exec.cachemount", true, "regular", false],
    );
    const sizes = [layer?.sizeBytes ?? 0, big?.sizeBytes ?? 0, mount?.sizeBytes ?? 0];
    const least = [100_000, 300_000, 2];
    assert(
      sizes.every((size, index) => size >= (least[index] ?? 0) && size < 3_000_000),
      sizes.join(),
    );
    assert.equal(small?.useCount, 2);
    assert((small.usedAt?.getTime() ?? 0) >= small.createdAt.getTime());
    assert(records.every(({ inUse, shared }) => !inUse && !shared));
    const filtered = await client.diskUsage({ filters: ["type==exec.cachemount", `id==${layer?.id}`] });
    assert.deepEqual(new Set(filtered), new Set([layer, mount]));
    await assert.rejects(client.diskUsage({ filters: ["type=="] }), (error) => {
      assert(error instanceof InvalidArgumentError);
      assert.match(error.message, /failed to parse diskusage filters \[type==\]/);
      return true;
    });
  });

  test("is pruned as far as a client says, but nothing that a build uses", async () => {
    await using on = await fixture();
    const { client } = on.worker;
    const one = step(on.base, "echo one; echo 1 > /one");
    assert.equal(await build(on.worker, one), "one\n");
    await build(on.worker, step(on.base, "echo two > /two"));
    const ending = new AbortController();
    const running = client.solve(definitionOf(step(one, "echo up; sleep 3000")), { signal: ending.signal });
    const ended = assert.rejects(running.result, CanceledError);
    for await (const { logs } of running.status) {
      if (logs.length > 0) {
        const inUse = await client.diskUsage({ filters: ["inuse"] });
        assert.equal(inUse.length, 4, descriptions(inUse).join());
        assert(inUse.some(({ mutable, description }) => mutable && description.includes("echo up")));
        const removed = await Array.fromAsync(client.prune());
        assert.deepEqual(descriptions(removed), [madeBy("echo two > /two")]);
        ending.abort();
      }
    }
    await ended;
    assert.equal(await build(on.worker, one), "", "what a build has used is still there");
    const kept = await Array.fromAsync(client.prune({ keepDurationMs: 3_600_000 }));
    assert.deepEqual(kept, []);
    const [small, ...others] = await Array.fromAsync(client.prune({ reservedBytes: 100_000 }));
    assert.equal(small?.description, madeBy("echo one; echo 1 > /one"));
    assert.equal(others.length, 2);
    assert.deepEqual(await client.diskUsage(), []);
    assert.deepEqual(await on.worker.snapshots(), []);
    const remembered = await rememberedBlobs(on.worker);
    const left = await blobs(on.worker);
    assert.deepEqual(left, remembered, "layers and documents go with their records");
    assert.equal(await build(on.worker, one), "one\n");
  });

  test("keeps a cache mount out of a prune by its type, and gives an empty one after it has gone", async () => {
    await using on = await fixture();
    const { client } = on.worker;
    const mounts = [{ type: "cache", dest: "/cache", id: "deps", sharing: "locked" }] as const;
    const look = (script: string) => step(on.base, script, { mounts, ignoreCache: false });
    await build(on.worker, look("echo x > /cache/x"));
    await Array.fromAsync(client.prune({ filters: ["type!=exec.cachemount"] }));
    assert.deepEqual(
      (await client.diskUsage()).map(({ type }) => type),
      ["exec.cachemount"],
    );
    assert.equal(await build(on.worker, look("ls /cache")), "x\n");
    const removed = await Array.fromAsync(client.prune({ filters: ["type==exec.cachemount"] }));
    assert.equal(removed.length, 1);
    assert.equal(await build(on.worker, look("ls /cache; echo empty")), "empty\n");
  });
});

describe("the garbage collector of a worker", () => {
  test("tells clients the rules that its settings come to", async () => {
    const rulesOf = async (oci: string, args: readonly string[] = []) => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
      const config = `[worker.oci]\n${oci}`;
      await using worker = await startWorker({ directory: directory.path, config, args });
      using channel = unixChannel(worker.address);
      const { record } = await createClient(Control, channel).listWorkers({});
      return record[0]?.GCPolicy ?? [];
    };
    assert.deepEqual(await rulesOf("gc = false"), []);
    assert.deepEqual(await rulesOf("", ["--oci-worker-gc=false"]), []);
    const said = await rulesOf('reservedSpace = "1%"\nmaxUsedSpace = 5000000000\nminFreeSpace = "2GB"');
    const [first, second, , last] = said;
    assert.deepEqual(
      [first?.filters.length, first?.keepDuration, first?.maxUsedSpace],
      [3, 48n * hourNs, 512_000_000n],
    );
    assert.equal(second?.keepDuration, 60n * 24n * hourNs);
    assert.deepEqual([last?.all, last?.maxUsedSpace, last?.minFreeSpace], [true, 5_000_000_000n, 2n ** 31n]);
    assert.equal(Number(last?.reservedSpace) % gigabyte, 0);
    for (const rules of [
      await rulesOf("gckeepstorage = 7000000000"),
      await rulesOf("", ["--oci-worker-gc-keepstorage", "7000"]),
    ]) {
      assert.deepEqual(
        rules.map(({ reservedSpace, maxUsedSpace }) => [reservedSpace, maxUsedSpace]),
        [
          [512_000_000n, 0n],
          [7_000_000_000n, 0n],
          [7_000_000_000n, 0n],
          [7_000_000_000n, 0n],
        ],
      );
    }
    const own =
      "gcpolicy = [{ keepBytes = 5, keepDuration = 3600, filters = ['type==regular'], all = true }]";
    const [rule, ...more] = await rulesOf(own);
    assert.deepEqual(
      [rule?.reservedSpace, rule?.keepDuration, rule?.filters, rule?.all, more],
      [5n, hourNs, ["type==regular"], true, []],
    );
  });

  test("removes what its rules do not keep, and says which of them and why", async () => {
    const rules =
      "[[worker.oci.gcpolicy]]\nfilters = ['description~=forget']\n[[worker.oci.gcpolicy]]\nmaxUsedSpace = '1GB'\n";
    await using on = await fixture(rules);
    // Nothing is there yet, so this look does not count, and the next one need not wait.
    await on.worker.process.said(/"hasRecords":false,"msg":"looking for garbage"/);
    await build(on.worker, step(step(on.base, "echo keep > /keep"), "echo forget > /forget"));
    const line = JSON.parse(await on.worker.process.said(/"msg":"cache record removed"/));
    const { by, rule, why, description } = line;
    assert.deepEqual([by, rule, description], ["gc", 1, madeBy("echo forget > /forget")]);
    assert.equal(why, "it is one of description~=forget, it keeps nothing that it covers");
    const left = await on.worker.client.diskUsage();
    assert(left.some(({ description }) => description === madeBy("echo keep > /keep")));
    assert.equal(left.length, 3);
  });

  test("looks at once after a start, too", async () => {
    await using on = await fixture();
    await build(on.worker, step(on.base, "echo x > /x"));
    await on.worker.process.stop();
    await using again = await startWorker({
      directory: on.directory,
      config: "[[worker.oci.gcpolicy]]\nall = true\n",
    });
    await again.process.said(/"msg":"garbage collected"/);
    assert.deepEqual(await again.client.diskUsage(), []);
    assert.deepEqual(await again.snapshots(), []);
  });
});
