import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { proxied, startContainerd } from "./peers/containerd.ts";
import { type LazyContainerd, withLazyContainerd } from "./peers/lazy-images.ts";
import { endLazyMounts } from "./peers/lazy-mounts.ts";
import { runStargz } from "./peers/stargz.ts";

const execute = promisify(execFile);
const ociw = join(import.meta.dirname, "../services/ociw/bin/ociw");

/** What a read of a mount that nobody serves would wait for; a process that is killed ends all the same. */
const killAfter = ["-s", "KILL", "120"];

const modifiedNs = 1_600_000_000_123_456_789n;

/** Several chunks, the same each time. */
const big = Buffer.from(Array.from({ length: 60_000 }, (_, index) => `line ${index}`).join("\n"));

/** Everything that a layer can have. Each directory is named, so that its time is not that of the unpack. */
const members: readonly TarMember[] = [
  { type: "directory", name: "data", mode: 0o750, uid: 5, gid: 6, modifiedNs },
  { type: "file", name: "data/big", content: big, mode: 0o640, uid: 7, gid: 8, modifiedNs },
  { type: "file", name: "data/empty", modifiedNs },
  { type: "hard link", name: "data/linked", linkName: "data/big", mode: 0o640, uid: 7, gid: 8, modifiedNs },
  { type: "symlink", name: "data/pointed", linkName: "big", modifiedNs },
  { type: "file", name: "data/program", mode: 0o4711, content: Buffer.from("x"), modifiedNs },
  {
    type: "file",
    name: "data/noted",
    content: Buffer.from("y"),
    xattrs: { "user.note": Buffer.from([1, 0, 255]) },
    modifiedNs,
  },
  { type: "fifo", name: "data/pipe", modifiedNs },
  { type: "character device", name: "data/null", deviceMajor: 1, deviceMinor: 3, mode: 0o666, modifiedNs },
  { type: "directory", name: "data/sticky", mode: 0o1777, modifiedNs },
  { type: "file", name: `data/${"n".repeat(200)}ä`, content: Buffer.from("long"), modifiedNs },
  { type: "directory", name: "bin", modifiedNs },
  { type: "file", name: "bin/.wh.yes" },
  { type: "directory", name: "tmp", mode: 0o1777, modifiedNs },
  { type: "file", name: "tmp/.wh..wh..opq" },
];

/** Layers that add, replace and hide, and one that comes twice: with the two around them thirty. */
const between: readonly (readonly TarMember[])[] = Array.from({ length: 28 }, (_, index) => [
  { type: "directory", name: "many", modifiedNs },
  { type: "file", name: "many/replaced", content: Buffer.from(`by layer ${index % 27}`), modifiedNs },
  { type: "file", name: `many/of-${index % 27}`, content: Buffer.from(`${index % 27}`), modifiedNs },
  { type: "file", name: `many/.wh.of-${(index % 27) - 1}` },
]);

/**
 * Everything that is beneath the directory `path` but the time of itself: names, content, modes, owners, times, links,
 * attributes, devices, as lines that can be compared. Another process reads it, as a client of the snapshotter would.
 */
async function treeAt(path: string): Promise<string[]> {
  const script = `
    find . -mindepth 1 \\( -type d -printf '%p %y %m %U:%G %T@\\n' -o -printf '%p %y %m %U:%G %T@ %s %n <%l>\\n' \\) | sort
    find . -mindepth 1 \\( -type b -o -type c \\) -exec stat -c '%n %t:%T' {} + | sort
    find . -type f -exec md5sum {} + | sort -k 2`;
  const { stdout } = await execute("timeout", [...killAfter, "sh", "-c", script], {
    cwd: path,
    maxBuffer: 64 * 1024 * 1024,
  });
  const attributes = readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => {
    const file = join(path, name);
    const values = llistxattr(file).map((each) => `${each}=${lgetxattr(file, each).toString("hex")}`);
    return `./${name} ${values.join()}`;
  });
  return [...stdout.split("\n"), ...attributes.sort()].filter((line) => !onlyUnpacked.test(line));
}

/** What an eStargz layer has for its readers, and nobody sees who mounts it. */
const onlyUnpacked = /\.\/(stargz\.index\.json|\.no\.prefetch\.landmark|\.prefetch\.landmark)/;

/** Has `use` see the whole tree of the image, mounted for reading. */
async function viewed({ snapshotter, chain }: LazyContainerd, use: (path: string) => Promise<void>) {
  const top = chain.at(-1) ?? "";
  await using directory = await mkdtempDisposable(join(tmpdir(), "lazily-"));
  const mounts = await snapshotter.direct.view("look", top, { "containerd.io/gc.root": "test" });
  {
    await using mounted = await mountTemporarily(mounts, directory.path);
    await use(mounted.path);
  }
  await snapshotter.direct.remove("look");
}

/** The sum of a file as a container sees it. */
async function sumIn(on: LazyContainerd, path: string): Promise<string> {
  return (await on.run("reader", "/bin/busybox", "md5sum", path)).slice(0, 32);
}

/** What is unpacked of the same image by containerd's own overlayfs. */
async function unpackedTree(image: string, chain: readonly string[]): Promise<string[]> {
  await using containerd = await startContainerd();
  await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", image);
  await using directory = await mkdtempDisposable(join(tmpdir(), "unpacked-"));
  const told = await containerd.ctr(
    "snapshots",
    "--snapshotter",
    "overlayfs",
    "view",
    "--mounts",
    "--target",
    "/target",
    "look",
    chain.at(-1) ?? "",
  );
  const [, type = "", source = "", options = ""] = /mount -t (\S+) (\S+) \/target -o (\S+)/.exec(told) ?? [];
  await using mounted = await mountTemporarily(
    [{ type, source, options: options.split(",") }],
    directory.path,
  );
  return await treeAt(mounted.path);
}

async function layersOf({ snapshotter }: LazyContainerd) {
  const { stdout } = await execute(ociw, ["layers", "--json", "--snapshotter-address", snapshotter.address]);
  return JSON.parse(stdout);
}

for (const mode of ["erofs", "erofs-loop", "fuse"]) {
  describe(`containerd, lazy layers by ${mode}`, () => {
    test("pulls thirty layers without unpacking, runs, and removes", () =>
      withLazyContainerd({ members, between, settings: { lazy_mode: mode } }, async (on) => {
        await on.rpull();
        const prepared = on.snapshotter.log.filter((line) =>
          line.includes('"remote-snapshot-prepared":"true"'),
        );
        assert.equal(prepared.length, 30, on.snapshotter.log.join("\n"));
        const expected = await unpackedTree(on.image, on.chain);
        await viewed(on, async (path) => assert.deepEqual(await treeAt(path), expected));
        assert.equal(await sumIn(on, "/data/linked"), md5(big));
        const script =
          "echo more >> /data/big; tail -c 5 /data/big; ls /bin/yes /tmp/x; rm /data/program; ls /data/program";
        await assert.rejects(on.run("writer", "sh", "-c", script));
        const list = await layersOf(on);
        assert.equal(list.mode, mode);
        assert.equal(list.layers.length, 29);
        await on.containerd.ctr("images", "remove", "--sync", on.image);
        await on.snapshotter.direct.cleanup();
        assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), []);
        assert.deepEqual(await mountPointsBeneath(join(on.snapshotter.root, "snapshots")), []);
      }));
  });
}

/** A process that reads every file of the directory `path`, and tells a line for each. */
function startReader(path: string) {
  const child = spawn("timeout", [...killAfter, "sh", "-c", "find . -type f | sort | xargs -n 1 md5sum"], {
    cwd: path,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const sums: string[] = [];
  const errors: string[] = [];
  const progress = createInterface(child.stdout).on("line", (line) => sums.push(line));
  createInterface(child.stderr).on("line", (line) => errors.push(line));
  const ended = once(child, "close");
  return {
    sums,
    errors,
    ended,
    /** Resolves when it has read so many files, or has ended. */
    async hasRead(files: number): Promise<void> {
      while (sums.length < files && child.exitCode === null) {
        await Promise.race([once(progress, "line"), ended]);
      }
    },
  };
}

const manyFiles: readonly TarMember[] = Array.from({ length: 240 }, (_, index) => ({
  type: "file",
  name: `data-${index}`,
  content: randomBytes(20_000 + 1000 * index),
}));

/** Nothing is read before it is asked for, and a read that gets nothing fails soon. */
const onDemand = {
  lazy_prefetch: "false",
  lazy_background_fetch: "false",
  lazy_fetch_timeout_ms: "2000",
};

describe("a lazy layer", () => {
  test("is read to the end, and rightly, by all who read it while the snapshotter is killed again and again", () =>
    withLazyContainerd(
      { members: manyFiles, settings: { ...onDemand, lazy_fetch_timeout_ms: "60000" } },
      async (on) => {
        await on.rpull();
        await viewed(on, async (path) => {
          const expected = manyFiles
            .map(({ name, content }) => `${md5(content as Buffer)}  ./${name}`)
            .sort();
          const readers = [0, 1, 2, 3].map(() => startReader(path));
          for (const files of [10, 60, 120, 180]) {
            await readers[0]?.hasRead(files);
            await on.snapshotter.restart("kill");
          }
          for (const { ended, sums, errors } of readers) {
            await ended;
            assert.deepEqual(errors, []);
            assert.deepEqual(sums.filter((line) => line.includes("./data-")).sort(), expected);
          }
        });
      },
    ));

  test("fails to be read while its registry is away, says so, and is read when that is back", () =>
    withLazyContainerd({ members: manyFiles, settings: onDemand }, async (on) => {
      await on.rpull();
      await viewed(on, async (path) => {
        const read = (name: string) =>
          execute("timeout", [...killAfter, "md5sum", name], { cwd: path }).then(({ stdout }) =>
            stdout.slice(0, 32),
          );
        const [first, second] = manyFiles.map(({ content }) => md5(content as Buffer));
        assert.equal(await read("data-0"), first);
        await on.line.cut();
        await assert.rejects(read("data-1"), /Input\/output error/);
        assert.equal(await read("data-0"), first);
        const failing = (await layersOf(on)).layers.find(({ failure }: { failure?: string }) => failure);
        assert(failing !== undefined, "a layer is failing");
        // What is at hand is at hand, also for the next process, which finds no registry either.
        await on.snapshotter.restart("kill");
        assert.equal(await read("data-0"), first);
        await assert.rejects(read("data-1"), /Input\/output error/);
        await on.line.mend();
        assert.equal(await read("data-1"), second);
        const mended = (await layersOf(on)).layers.filter(({ failure }: { failure?: string }) => failure);
        assert.deepEqual(mended, []);
      });
    }));

  test("is mounted again after the machine was restarted, without its registry", () =>
    withLazyContainerd({ members, settings: {} }, async (on) => {
      await on.rpull();
      await viewed(on, async (path) => void (await treeAt(path)));
      await on.snapshotter.restart("stop", () => endLazyMounts(on.snapshotter.root));
      await on.line.cut();
      await viewed(on, async (path) => {
        const { stdout } = await execute("timeout", [...killAfter, "cat", "data/linked"], { cwd: path });
        assert.equal(stdout, big.toString());
      });
    }));

  test("of stargz-snapshotter's making is one", () =>
    withLazyContainerd({ members, madeBy: "stargz-snapshotter" }, async (on) => {
      await on.rpull();
      assert.equal((await layersOf(on)).layers.length, 2);
      assert.equal(await sumIn(on, "/data/linked"), md5(big));
    }));

  test("that cannot be had is unpacked, and the reason is told", () =>
    withLazyContainerd({ members }, async (on) => {
      const ordinary = `${on.line.host}/test/ordinary:1`;
      await runStargz(on.containerd, "images", "rpull", "--plain-http", "--snapshotter", proxied, ordinary);
      const line = await on.snapshotter.said(/"remote-snapshot-prepared":"false"/);
      assert.match(line, /without a table of contents|no label says the digest/);
      assert.equal(
        await on.containerd.ctrAtLast(
          "run",
          "--rm",
          "--snapshotter",
          proxied,
          ordinary,
          "reader",
          "cat",
          "/data/linked",
        ),
        big.toString(),
      );
    }));
});

function md5(content: Buffer): string {
  return createHash("md5").update(content).digest("hex");
}
