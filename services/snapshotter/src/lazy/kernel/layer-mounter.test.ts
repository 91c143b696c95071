import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { assertShows } from "@oci-worker/erofs/assert-shows";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { mountModes } from "./layer-mounter.ts";
import { layerOnDisk, openScratch } from "./sample-mounts.ts";

const run = promisify(execFile);

const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");

/** Something of everything that a layer can have. */
const members: readonly TarMember[] = [
  { type: "directory", name: "etc", mode: 0o2750, uid: 10, gid: 20, modifiedNs: 1_600_000_000_123_456_789n },
  { type: "file", name: "etc/hosts", content: Buffer.from("127.0.0.1 localhost\n"), modifiedNs: 7n },
  { type: "file", name: "etc/empty" },
  { type: "file", name: "bin/su", mode: 0o4755, content: Buffer.alloc(10_000, "su") },
  { type: "hard link", name: "bin/su2", linkName: "bin/su" },
  { type: "file", name: "bin/again", content: Buffer.alloc(10_000, "su") },
  { type: "symlink", name: "bin/sh", linkName: "/bin/busybox" },
  {
    type: "file",
    name: "lib/big",
    content: Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => at * 7)),
  },
  { type: "character device", name: "dev/null", deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
  { type: "block device", name: "dev/sda", deviceMajor: 4095, deviceMinor: 1_048_575, uid: 3_000_000 },
  { type: "fifo", name: "run/pipe" },
  { type: "file", name: `long/${"n".repeat(255)}/${"ü".repeat(100)}`, content: Buffer.from("long name") },
  {
    type: "file",
    name: "bin/ping",
    content: Buffer.from("ping"),
    xattrs: { "security.capability": capability, "user.note": Buffer.alloc(900, "x") },
  },
  ...Array.from(
    { length: 600 },
    (_, index): TarMember => ({
      type: "file",
      name: `many/file number ${index}`,
      content: Buffer.from(`content ${index}`),
    }),
  ),
  { type: "file", name: "var/.wh.gone" },
  { type: "file", name: "opt/.wh..wh..opq" },
  { type: "file", name: "opt/new", content: Buffer.from("new") },
];

for (const mode of mountModes) {
  describe(`layers shown by ${mode}`, () => {
    test("are the trees that were planned: metadata, links, attributes, devices, content", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      assert.deepEqual(program.opened, { mode, passedOver: [], adopted: false });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      assertShows(target, layer.root, layer.data);
    });

    test("are read in requests of many pages, in the first megabyte of a file too", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      const reading = ["dd", `if=${join(target, "lib/big")}`, "of=/dev/null", "bs=1M"];
      await run("timeout", ["-s", "KILL", "60", ...reading]);
      // Of the 733 pages the kernel takes the first 256 singly into its memory.
      const requests = await program.requestsFor(3_000_000);
      assert(requests < 100, `${requests} requests`);
    });

    test("hide what is beneath them, as layers of an overlay", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      const [target, beneath] = [join(scratch.path, "target"), join(scratch.path, "beneath")];
      await program.mount(layer, target);
      for (const path of ["var/gone", "var/kept", "opt/old"]) {
        await mkdir(join(beneath, path, ".."), { recursive: true });
        await writeFile(join(beneath, path), "");
      }
      const [upper, work] = [join(scratch.path, "upper"), join(scratch.path, "work")];
      await Promise.all([mkdir(upper), mkdir(work)]);
      const options = [`lowerdir=${target}:${beneath}`, `upperdir=${upper}`, `workdir=${work}`];
      await using shown = await mountTemporarily(
        [{ type: "overlay", source: "overlay", options }],
        scratch.path,
      );
      assert.deepEqual(readdirSync(join(shown.path, "var")), ["kept"]);
      assert.deepEqual(readdirSync(join(shown.path, "opt")), ["new"]);
      await writeFile(join(shown.path, "etc/hosts"), "changed", { flag: "a" });
      assert.equal(readFileSync(join(shown.path, "etc/hosts"), "utf8"), "127.0.0.1 localhost\nchanged");
      assert.equal(readFileSync(join(target, "etc/hosts"), "utf8"), "127.0.0.1 localhost\n");
    });

    test("are shown with other ids, to a container that has its own", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      const options = ["rbind", "ro", "uidmap=0:100000:65536", "gidmap=0:200000:65536"];
      await using shown = await mountTemporarily([{ type: "bind", source: target, options }], scratch.path);
      const { uid, gid } = lstatSync(join(shown.path, "etc"));
      assert.deepEqual([uid, gid], [100_010, 200_020]);
      assert.equal(readFileSync(join(shown.path, "etc/hosts"), "utf8"), "127.0.0.1 localhost\n");
    });

    test("can be read again, and by those who wait, after whoever served them was killed", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const first = await scratch.start({ mode, layers: [layer], isMute: true });
      const target = join(scratch.path, "target");
      await first.mount(layer, target);
      const readings = ["lib/big", "bin/su", "opt/new"].map((path) => run("md5sum", [join(target, path)]));
      await first.untilRead();
      await first.kill();
      if (mode !== "fuse") {
        // Nobody serves now, and nobody has to for this.
        assert.deepEqual(readdirSync(join(target, "many")).length, 600);
      }
      const second = await scratch.start({ mode, layers: [layer] });
      assert.deepEqual(second.opened, { mode, passedOver: [], adopted: true });
      await Promise.all(readings);
      assertShows(target, layer.root, layer.data);
      await second.kill();
      const third = await scratch.start({ mode, layers: [layer] });
      const again = join(scratch.path, "again");
      await third.mount(layer, again);
      assertShows(again, layer.root, layer.data);
    });

    test("are mounted anew when what kept them is gone", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const first = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await first.mount(layer, target);
      await first.kill();
      const held = join(scratch.directory, "held");
      for (const name of readdirSync(held)) {
        process.kill(JSON.parse(readFileSync(join(held, name), "utf8")).holder.pid, "SIGKILL");
      }
      const second = await scratch.start({ mode, layers: [layer] });
      assert.deepEqual(second.opened, { mode, passedOver: [], adopted: false });
      await second.unmount(target);
      await second.mount(layer, target);
      assertShows(target, layer.root, layer.data);
    });

    test("are found again where a symbolic link leads to them", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const link = join(scratch.path, "link");
      await symlink(scratch.path, link);
      const options = { mode, layers: [layer], directory: join(link, "lazy") };
      const first = await scratch.start(options);
      await first.mount(layer, join(link, "target"));
      await first.kill();
      const second = await scratch.start(options);
      assert.deepEqual(second.opened, { mode, passedOver: [], adopted: true });
      assertShows(join(scratch.path, "target"), layer.root, layer.data);
      await second.unmount(join(link, "target"));
      assert.equal(mountedAt(await readMountInfo(), join(scratch.path, "target")), undefined);
    });

    test("are a directory each, when one is mounted twice: so an overlay takes both", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      const targets = [join(scratch.path, "one"), join(scratch.path, "other")];
      for (const target of targets) {
        await program.mount(layer, target);
      }
      await using shown = await mountTemporarily(
        [{ type: "overlay", source: "overlay", options: [`lowerdir=${targets.join(":")}`] }],
        scratch.path,
      );
      assert.equal(readFileSync(join(shown.path, "bin/ping"), "utf8"), "ping");
      const [one = "", other = ""] = targets;
      await program.unmount(one);
      assertShows(other, layer.root, layer.data);
    });

    test("are mounted thirty at once", async () => {
      await using scratch = await openScratch();
      const layers = await Promise.all(
        Array.from({ length: 30 }, (_, index) =>
          layerOnDisk(scratch.path, index + 1, [
            { type: "file", name: "number", content: Buffer.from(`${index}`) },
            { type: "file", name: `of layer ${index}`, content: Buffer.alloc(5000, `${index}`) },
          ]),
        ),
      );
      const program = await scratch.start({ mode, layers });
      const targets = layers.map(({ number }) => join(scratch.path, `target ${number}`));
      await Promise.all(layers.map((layer, index) => program.mount(layer, targets[index] ?? "")));
      for (const [index, { root, data }] of layers.entries()) {
        assertShows(targets[index] ?? "", root, data);
      }
    });

    test("go away, with what serves them, when nobody uses them; and stay while somebody does", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const first = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await first.mount(layer, target);
      await first.stop();
      const second = await scratch.start({ mode, layers: [layer] });
      assert.equal(second.opened.adopted, true);
      assertShows(target, layer.root, layer.data);
      await second.unmount(target);
      await second.unmount(target);
      await second.stop();
      const mounts = await readMountInfo();
      assert.deepEqual(
        mounts.filter(({ mountPoint }) => mountPoint.startsWith(scratch.path)),
        [],
      );
      assert.deepEqual(readdirSync(join(scratch.directory, "held")), []);
    });

    test("that need no data are mounted without any", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, [{ type: "symlink", name: "link", linkName: "x" }]);
      const program = await scratch.start({ mode, layers: [] });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      assertShows(target, layer.root, layer.data);
    });
  });
}

for (const mode of ["erofs", "erofs-loop"] as const) {
  describe(`layers shown by ${mode}`, () => {
    test("are read without whoever served them when they are complete", async () => {
      await using scratch = await openScratch();
      const layer = { ...(await layerOnDisk(scratch.path, 1, members)), isComplete: true };
      const program = await scratch.start({ mode, layers: [] });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      await program.kill();
      assertShows(target, layer.root, layer.data);
    });

    test("are read without whoever served them once their file is used, and go away as before", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await program.mount(layer, target);
      const options = [`lowerdir=${target}:${scratch.path}`];
      const overlay = () => mountTemporarily([{ type: "overlay", source: "overlay", options }], scratch.path);
      await using before = await overlay();
      await program.useFile(layer, target);
      await using after = await overlay();
      await program.kill();
      assertShows(target, layer.root, layer.data);
      // What was mounted meanwhile has a file of its own, unless that is a loop device.
      for (const { path } of mode === "erofs" ? [after] : [before, after]) {
        const { stdout } = await run("timeout", ["-s", "KILL", "60", "cat", join(path, "etc/hosts")]);
        assert.equal(stdout, "127.0.0.1 localhost\n");
      }
      const next = await scratch.start({ mode, layers: [layer] });
      await next.unmount(target);
      assert.equal(mountedAt(await readMountInfo(), target), undefined);
    });

    test("are refused when nobody knows them", async () => {
      await using scratch = await openScratch();
      const layer = await layerOnDisk(scratch.path, 1, members);
      const program = await scratch.start({ mode, layers: [] });
      const target = join(scratch.path, "target");
      await assert.rejects(program.mount(layer, target), /Cannot open .*\/blobs\/1.*No such file/s);
      assert.equal(mountedAt(await readMountInfo(), target), undefined);
    });
  });
}

describe("openLayerMounter", () => {
  test("takes the best way that there is", async () => {
    await using scratch = await openScratch();
    const best = await scratch.start({ mode: "auto", layers: [] });
    assert.deepEqual(best.opened, { mode: "erofs", passedOver: [], adopted: false });
  });

  test("stays with FUSE as long as what an earlier process has mounted by it is there", async () => {
    await using scratch = await openScratch();
    const layer = await layerOnDisk(scratch.path, 1, members);
    const first = await scratch.start({ mode: "fuse", layers: [layer] });
    const target = join(scratch.path, "target");
    await first.mount(layer, target);
    await first.kill();
    const second = await scratch.start({ mode: "auto", layers: [layer] });
    const obstacle = "layers are mounted by fuse since an earlier start";
    const passedOver = ["erofs", "erofs-loop"].map((mode) => ({ mode, obstacle }));
    assert.deepEqual(second.opened, { mode: "fuse", passedOver, adopted: true });
    assertShows(target, layer.root, layer.data);
    await second.unmount(target);
    await second.kill();
    const third = await scratch.start({ mode: "auto", layers: [layer] });
    assert.equal(third.opened.mode, "erofs");
  });

  test("drops what another way has left, and says so", async () => {
    await using scratch = await openScratch();
    const layer = await layerOnDisk(scratch.path, 1, members);
    for (const mode of ["erofs", "fuse", "erofs-loop"] as const) {
      const program = await scratch.start({ mode, layers: [layer] });
      const target = join(scratch.path, "target");
      await program.unmount(target);
      await program.mount(layer, target);
      assertShows(target, layer.root, layer.data);
      await program.kill();
    }
    const last = await scratch.start({ mode: "fuse", layers: [layer] });
    assert.equal(last.opened.adopted, false);
    const left = (await readMountInfo()).filter(({ source }) => source === scratch.directory);
    assert.deepEqual(
      left.map(({ mountPoint }) => mountPoint),
      [join(scratch.directory, "trees")],
    );
  });

  test("serves file by file in a user namespace, and tells what is in the way of the others", async () => {
    await using scratch = await openScratch();
    const layer = await layerOnDisk(scratch.path, 1, [
      { type: "file", name: "file", content: Buffer.from("content") },
    ]);
    const unshare = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"];
    const program = await scratch.start({ mode: "auto", layers: [layer] }, ...unshare);
    const { mode, passedOver } = program.opened;
    assert.equal(mode, "fuse");
    assert.deepEqual(
      passedOver.map((each) => each.mode),
      ["erofs", "erofs-loop"],
    );
    assert.match(passedOver[0]?.obstacle ?? "", /EPERM/);
    const target = join(scratch.path, "target");
    await program.mount(layer, target);
    const inside = ["--target", String(program.pid), "--user", "--mount", "--preserve-credentials"];
    const { stdout } = await run("nsenter", [...inside, "cat", join(target, "file")]);
    assert.equal(stdout, "content");
    await assert.rejects(
      scratch.start({ mode: "erofs", layers: [] }, ...unshare),
      /Cannot show layers in .*: erofs: .*EPERM/,
    );
  });
});
