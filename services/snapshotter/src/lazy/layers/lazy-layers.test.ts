import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { digestOf } from "@oci-worker/oci/digest";
import { planLayer } from "../plan/layer-plan.ts";
import { type SampleLayer, sampleData, sampleLayer } from "../sample-layer.ts";
import { sampleRegistry, sendPart } from "../sample-registry.ts";
import { labelsOf, type SampleLazy, sampleLazy } from "./sample-lazy.ts";

const run = promisify(execFile);

/** Reads past the kernel's memory, takes a signal for nothing, and says what a single read(2) has given it. */
const interruptible = `
  use POSIX; use Fcntl;
  POSIX::sigaction(SIGUSR1, POSIX::SigAction->new(sub {}));
  sysopen(my $file, $ARGV[0], O_RDONLY | 0x4000) or die $!;
  sysseek($file, $ARGV[1], 0);
  my $count = sysread($file, my $bytes, 4096);
  print defined($count) ? unpack("H*", $bytes) : "$!";
`;

const patient = new AbortController().signal;

/** Bytes that do not compress. */
function noise(sizeBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed;
  for (let at = 0; at < sizeBytes; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

const small: readonly TarMember[] = Array.from({ length: 20 }, (_, index) => ({
  type: "file",
  name: `bin/${index}`,
  content: noise(30_000 + index, index),
}));
const big: TarMember = { type: "file", name: "big", content: noise(1_500_000, 77) };

/** More than what is read together with the table of contents. */
const chunked = await sampleLayer([...small, big], { chunkBytes: 100_000 });
const labels = labelsOf(chunked);
const data = dataOf(chunked);

function dataOf(layer: SampleLayer): Buffer {
  return sampleData(planLayer(layer.tree, { xattrNamespace: "trusted" }), layer);
}

async function registryWith(...layers: readonly SampleLayer[]) {
  return await sampleRegistry(Object.fromEntries(layers.map(({ blob }) => [digestOf(blob), blob])));
}

/** The one layer's directory. */
async function layerDirectory({ root }: SampleLazy): Promise<string> {
  const [name] = await readdir(join(root, "layers"));
  return join(root, "layers", name ?? "");
}

/** Turns a byte of the file over. */
async function flip(path: string, at: number): Promise<void> {
  await using file = await open(path, "r+");
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, at);
}

/** Where in the file the content `needle` is. */
function placeOf(needle: Buffer): number {
  const at = data.indexOf(needle);
  assert.ok(at >= 0);
  return at;
}

const ioError = /Input\/output error/;

describe("lazy layers", () => {
  test("give what is read, after one request to open", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labels, patient);
    assert.equal(registry.requests.length, 1);
    const [opened] = await lazy.layers.status();
    assert.equal(opened?.fetchedBytes, 256 * 1024);
    assert.ok((await lazy.read(number)).equals(data));
    await lazy.complete(number);
    const [status] = await lazy.layers.status();
    assert.equal(status?.verifiedBytes, status?.contentBytes);
    assert.equal(status?.cachedBytes, status?.contentBytes);
    assert.equal(status?.isComplete, true);
    assert.equal(status?.host, registry.host);
    assert.deepEqual(status?.failures, []);
  });

  test("fetch no more than the chunk that is read", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labels, patient);
    registry.requests.length = 0;
    const place = { offset: placeOf(big.content as Buffer) + 8192, sizeBytes: 4096 };
    assert.ok((await lazy.read(number, place)).equals(data.subarray(place.offset, place.offset + 4096)));
    const [status] = await lazy.layers.status();
    // The kernel reads ahead by itself, 128 KiB at most.
    assert.ok((status?.fetchedBytes ?? 0) < 400_000, `${status?.fetchedBytes}`);
    assert.deepEqual(await lazy.layers.firstReads(number), ["big"]);
  });

  test("fetch what is read next with what is read before, and check it no less", async () => {
    const names = Array.from({ length: 400 }, (_, index) => `bin/${index}`);
    const contents = names.map((_, index) => noise(3000, index));
    const layer = await sampleLayer(
      names.map((name, index): TarMember => ({ type: "file", name, content: contents[index] as Buffer })),
    );
    const plain = dataOf(layer);
    const startOf = (index: number) => plain.indexOf(contents[index] as Buffer);
    await using registry = await registryWith(layer);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labelsOf(layer), patient);
    const read = (index: number) => lazy.read(number, { offset: startOf(index), sizeBytes: 3000 });
    registry.requests.length = 0;
    // One that comes along is wrong, and good when it is asked for itself.
    registry.misbehave = (request, response) => {
      registry.misbehave = () => false;
      const { chunks } = planLayer(layer.tree, { xattrNamespace: "trusted" });
      const { offset = 0 } = chunks.find(({ start }) => start === startOf(104))?.chunk ?? {};
      const bad = Buffer.from(layer.blob);
      bad.fill(0xff, offset + 100, offset + 110);
      sendPart(request, response, bad);
      return true;
    };
    for (const index of [100, 101, 102, 103]) {
      assert.ok((await read(index)).equals(contents[index] as Buffer));
    }
    assert.equal(registry.requests.length, 1);
    assert.ok((await read(104)).equals(contents[104] as Buffer));
    assert.equal(registry.requests.length, 2);
    const [status] = await lazy.layers.status();
    assert.match(status?.failures.at(-1)?.message ?? "", /corrupt|digest/);
  });

  test("fetch a chunk once for 32 readers", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labels, patient);
    registry.requests.length = 0;
    const place = { offset: placeOf(big.content as Buffer), sizeBytes: 4096 };
    const all = await Promise.all(Array.from({ length: 32 }, () => lazy.read(number, place)));
    assert.ok(all.every((bytes) => bytes.equals(data.subarray(place.offset, place.offset + 4096))));
    assert.equal(new Set(registry.requests.map(({ range }) => range)).size, registry.requests.length);
    assert.ok(registry.requests.length <= 2, `${registry.requests.length} requests`);
  });

  test("give a reader that is sent a signal meanwhile what it reads", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labels, patient);
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    registry.misbehave = (_request, response) => {
      asked.resolve();
      void answer.promise.then(() => response.destroy());
      return true;
    };
    const place = placeOf(big.content as Buffer);
    assert.equal(place % 4096, 0);
    const reader = execFile("perl", [
      "-e",
      interruptible,
      join(lazy.mountPoint, String(number)),
      String(place),
    ]);
    const closed = once(reader, "close");
    const said = text(reader.stdout ?? Readable.from([]));
    await asked.promise;
    reader.kill("SIGUSR1");
    // Whoever serves the kernel has seen by then that there was a signal.
    await run("stat", [join(lazy.mountPoint, "none")]).catch(() => undefined);
    registry.misbehave = () => false;
    answer.resolve();
    assert.equal(await said, data.subarray(place, place + 4096).toString("hex"));
    await closed;
  });

  test("are opened once by two who want one at the same time, and again without a request", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const both = await Promise.all([1, 2].map(() => lazy.layers.open(labels, patient)));
    assert.deepEqual(both[0], both[1]);
    assert.deepEqual(await lazy.layers.open(labels, patient), both[0]);
    assert.equal(registry.requests.length, 1);
  });

  test("are there after a restart without any network", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const before = await lazy.layers.open(labels, patient);
    await lazy.read(before.number);
    await registry.die();
    await lazy.restart();
    const after = await lazy.layers.reopen(before);
    assert.deepEqual(await lazy.layers.open(labels, patient), after);
    assert.equal(after.number, before.number);
    assert.ok((await lazy.read(after.number, { offset: 0, sizeBytes: data.length })).equals(data));
    const [status] = await lazy.layers.status();
    assert.equal(status?.requests, 0);
    assert.deepEqual(status?.failures, []);
  });

  test("fail a read that nobody serves, and give it when somebody does again", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry], { fetchTimeoutMs: 1000 });
    const { number } = await lazy.layers.open(labels, patient);
    await registry.die();
    await assert.rejects(lazy.read(number), ioError);
    const [status] = await lazy.layers.status();
    assert.match(status?.failures[0]?.message ?? "", /refuses connections/);
    assert.equal(status?.failures[0]?.host, registry.host);
    await registry.revive();
    assert.ok((await lazy.read(number)).equals(data));
  });

  test("fail what is wrong in the blob, and nothing else", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { chunks } = planLayer(chunked.tree, { xattrNamespace: "trusted" });
    const wrong = chunks.find(({ chunk }) => chunk.sizeBytes === 30_005);
    assert.ok(wrong);
    const blob = Buffer.from(chunked.blob);
    const middle = wrong.chunk.offset + Math.floor(wrong.chunk.compressedBytes / 2);
    blob[middle] = (blob[middle] ?? 0) ^ 1;
    registry.blobs.set(digestOf(chunked.blob), blob);
    const { number } = await lazy.layers.open(labels, patient);
    await assert.rejects(lazy.read(number, { offset: wrong.start, sizeBytes: 4096 }), ioError);
    for (const { start, chunk } of chunks.filter((each) => each !== wrong && each.chunk.sizeBytes < 40_000)) {
      const place = { offset: start, sizeBytes: chunk.sizeBytes };
      // Page by page: what the kernel reads ahead may be what is wrong, and is then asked for again without.
      assert.ok((await lazy.read(number, place)).equals(data.subarray(start, start + chunk.sizeBytes)));
    }
    registry.blobs.set(digestOf(chunked.blob), chunked.blob);
    assert.ok((await lazy.read(number)).equals(data));
  });

  test("take wrong bytes of a mirror from the next host", async () => {
    await using mirror = await sampleRegistry();
    await using origin = await registryWith(chunked);
    // The table of contents is right, so it is opened there.
    const blob = Buffer.from(chunked.blob);
    blob.fill(0xaa, 100, 600_000);
    mirror.blobs.set(digestOf(chunked.blob), blob);
    await using lazy = await sampleLazy([mirror, origin]);
    const { number } = await lazy.layers.open(labels, patient);
    assert.ok((await lazy.read(number)).equals(data));
    const [status] = await lazy.layers.status();
    assert.ok((status?.failureCount ?? 0) > 0);
    assert.ok(status?.failures.every(({ host }) => host === mirror.host));
  });

  test("find what is damaged on disk when it is first used after a restart, and fetch it again", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labels, patient);
    await lazy.read(number);
    const place = placeOf(big.content as Buffer);
    await flip(join(await layerDirectory(lazy), "data"), place + 5);
    registry.requests.length = 0;
    await lazy.restart();
    const read = await lazy.read(number, { offset: 0, sizeBytes: data.length });
    assert.ok(read.equals(data));
    assert.equal(registry.requests.length, 1);
    const [status] = await lazy.layers.status();
    assert.match(status?.failures[0]?.message ?? "", /damaged/);
  });

  for (const name of ["info.json", "meta.erofs", "chunks"]) {
    test(`are made anew where ${name} is damaged, with their number and data`, async () => {
      await using registry = await registryWith(chunked);
      await using lazy = await sampleLazy([registry]);
      const before = await lazy.layers.open(labels, patient);
      await lazy.read(before.number);
      const path = join(await layerDirectory(lazy), name);
      const good = await readFile(path);
      await writeFile(path, "x");
      registry.requests.length = 0;
      await lazy.restart();
      const after = await lazy.layers.open(labels, patient);
      assert.equal(after.number, before.number);
      assert.ok((await readFile(path)).equals(good));
      assert.ok((await lazy.read(after.number, { offset: 0, sizeBytes: data.length })).equals(data));
      assert.equal(registry.requests.length, 1);
    });
  }

  test("are not opened with another table of contents than is trusted", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const wrong = { ...labels, "containerd.io/snapshot/stargz/toc.digest": digestOf("another") };
    await assert.rejects(lazy.layers.open(wrong, patient), { reason: "DATA_LOSS" });
    const { "containerd.io/snapshot/stargz/toc.digest": _digest, ...none } = labels;
    await assert.rejects(lazy.layers.open(none, patient), { reason: "FAILED_PRECONDITION" });
    assert.deepEqual(await readdir(join(lazy.root, "layers")), []);
    await lazy.restart({ allowUnverified: true });
    assert.ok((await lazy.read((await lazy.layers.open(none, patient)).number)).equals(data));
  });

  test("are no ordinary layers, and nothing without a registry", async () => {
    await using registry = await sampleRegistry();
    await using lazy = await sampleLazy([registry], { fetchTimeoutMs: 300 });
    await assert.rejects(lazy.layers.open(labels, patient), { reason: "NOT_FOUND" });
    registry.blobs.set(digestOf(chunked.blob), noise(10_000, 3));
    await assert.rejects(lazy.layers.open(labels, patient), /ordinary one/);
    await registry.die();
    await assert.rejects(lazy.layers.open(labels, patient), { reason: "UNAVAILABLE" });
  });

  test("share chunks on the disk that another layer has", async () => {
    const other = await sampleLayer([...small.slice(0, 2), big], { chunkBytes: 100_000 });
    await using registry = await registryWith(chunked, other);
    await using lazy = await sampleLazy([registry]);
    const first = await lazy.layers.open(labels, patient);
    await lazy.read(first.number);
    const second = await lazy.layers.open(labelsOf(other), patient);
    registry.requests.length = 0;
    assert.ok((await lazy.read(second.number)).equals(dataOf(other)));
    assert.deepEqual(registry.requests, []);
  });

  test("keep to the quota, and read on", async () => {
    const cacheQuotaBytes = 600_000;
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry], { cacheQuotaBytes });
    const { number, dataPath } = await lazy.layers.open(labels, patient);
    for (let turn = 0; turn < 2; turn += 1) {
      assert.ok((await lazy.read(number)).equals(data));
      const [status] = await lazy.layers.status();
      assert.ok((status?.cachedBytes ?? 0) <= cacheQuotaBytes);
      const { blocks } = await stat(dataPath);
      assert.ok(blocks * 512 <= cacheQuotaBytes * 1.05, `${blocks * 512} bytes on disk`);
      assert.equal(status?.isComplete, false);
    }
  });

  test("are read where the quota is less than one read wants", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry], { cacheQuotaBytes: 110_000 });
    const { number } = await lazy.layers.open(labels, patient);
    assert.ok((await lazy.read(number, { offset: 0, sizeBytes: data.length })).equals(data));
    const [status] = await lazy.layers.status();
    assert.deepEqual(status?.failures, []);
  });

  test("give up what was read longest ago, also before a restart", async () => {
    await using registry = await registryWith(chunked);
    // Ten of the small files.
    const cacheQuotaBytes = 10 * 32_768;
    await using lazy = await sampleLazy([registry], { cacheQuotaBytes });
    const { number } = await lazy.layers.open(labels, patient);
    const { chunks } = planLayer(chunked.tree, { xattrNamespace: "trusted" });
    const files = small.map(({ content }) => {
      const start = placeOf(content as Buffer);
      return { start, chunk: chunks.findIndex((each) => each.start === start) };
    });
    const read = async (index: number) => {
      await lazy.read(number, { offset: files[index]?.start ?? 0, sizeBytes: 4096 });
    };
    const kept = async () => {
      const present = await readFile(join(await layerDirectory(lazy), "present"));
      return [...files.keys()].filter((index) => {
        const { chunk = 0 } = files[index] ?? {};
        return ((present[chunk >>> 3] ?? 0) & (1 << (chunk & 7))) !== 0;
      });
    };
    for (const index of [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]) {
      await read(index);
    }
    assert.deepEqual(await kept(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    await lazy.restart({ cacheQuotaBytes });
    for (const index of [9, 10, 11]) {
      await read(index);
    }
    const left = await kept();
    assert.deepEqual(left.slice(-3), [9, 10, 11]);
    assert.deepEqual(left.slice(0, 2), [0, 1]);
    assert.ok(!left.includes(2), `${left}`);
  });

  test("are fetched on when there is room again", async () => {
    const other = await sampleLayer([{ type: "file", name: "other", content: noise(3_000_000, 5) }]);
    await using registry = await registryWith(chunked, other);
    const full = { backgroundFetch: true, cacheQuotaBytes: 3_500_000 };
    await using lazy = await sampleLazy([registry], full);
    const first = await lazy.layers.open(labels, patient);
    await lazy.complete(first.number);
    const second = await lazy.layers.open(labelsOf(other), patient);
    await lazy.full(second.number);
    await lazy.layers.forget(first.number);
    await lazy.complete(second.number);
  });

  test("give up nothing of what is mounted as it is", async () => {
    const other = await sampleLayer([{ type: "file", name: "other", content: noise(3_000_000, 5) }]);
    await using registry = await registryWith(chunked, other);
    await using lazy = await sampleLazy([registry], { cacheQuotaBytes: 4_400_000 });
    const { number, dataPath } = await lazy.layers.open(labels, patient);
    assert.equal(await lazy.layers.useAsDevice(number), false);
    await lazy.read(number);
    await lazy.complete(number);
    assert.equal(await lazy.layers.useAsDevice(number), true);
    await lazy.restart();
    const second = await lazy.layers.open(labelsOf(other), patient);
    assert.ok((await lazy.read(second.number)).equals(dataOf(other)));
    assert.ok((await readFile(dataPath)).equals(data));
    assert.equal(await lazy.layers.useAsDevice(number), true);
  });

  test("are fetched whole while nobody waits, and complete then", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry], { backgroundFetch: true });
    const { number, dataPath } = await lazy.layers.open(labels, patient);
    await lazy.complete(number);
    assert.ok((await readFile(dataPath)).equals(data));
    assert.equal((await lazy.layers.open(labels, patient)).isComplete, true);
    assert.ok(registry.requests.length <= 3, `${registry.requests.length} requests`);
    registry.requests.length = 0;
    await lazy.restart();
    await lazy.complete(number);
    assert.deepEqual(registry.requests, []);
  });

  test("have what the image wants first before it is started", async () => {
    const ordered = await sampleLayer([...small, big], { priorities: ["big"], chunkBytes: 100_000 });
    await using registry = await registryWith(ordered);
    await using lazy = await sampleLazy([registry], { prefetch: true });
    const { number } = await lazy.layers.open(labelsOf(ordered), patient);
    await lazy.layers.prefetched(number);
    await registry.die();
    const content = big.content as Buffer;
    const offset = dataOf(ordered).indexOf(content);
    assert.ok((await lazy.read(number, { offset, sizeBytes: content.length })).equals(content));
  });

  test("go on where a registry sends whole blobs alone", async () => {
    await using registry = await registryWith(chunked);
    registry.misbehave = (_, response) => response.writeHead(200).end(chunked.blob) !== undefined;
    await using lazy = await sampleLazy([registry], { backgroundFetch: true });
    const { number } = await lazy.layers.open(labels, patient);
    await lazy.complete(number);
    assert.ok((await lazy.read(number)).equals(data));
    assert.ok(registry.requests.length <= 5, `${registry.requests.length} requests`);
  });

  test("are served on when one has come and gone before anything was read", async () => {
    const other = await sampleLayer([big]);
    await using registry = await registryWith(chunked, other);
    await using lazy = await sampleLazy([registry]);
    const gone = await lazy.layers.open(labelsOf(other), patient);
    await lazy.layers.forget(gone.number);
    const { number } = await lazy.layers.open(labels, patient);
    assert.ok((await lazy.read(number)).equals(data));
  });

  test("are gone when they are forgotten, number and all", async () => {
    await using registry = await registryWith(chunked);
    await using lazy = await sampleLazy([registry]);
    const before = await lazy.layers.open(labels, patient);
    await lazy.layers.forget(before.number);
    assert.deepEqual(await readdir(join(lazy.root, "layers")), []);
    await lazy.restart();
    const after = await lazy.layers.open(labels, patient);
    assert.notEqual(after.number, before.number);
    assert.ok((await lazy.read(after.number)).equals(data));
    await rm(before.metaPath, { force: true });
  });
});
