import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { proxied } from "./peers/containerd.ts";
import { type LazyContainerd, withLazyContainerd } from "./peers/lazy-images.ts";
import { runStargz } from "./peers/stargz.ts";
import { treeAt, unpackedTree } from "./peers/tree.ts";
import { big, changingLayers, members } from "./peers/tree-members.ts";

/** The sum of a file as a container sees it. */
async function sumIn(on: LazyContainerd, path: string): Promise<string> {
  return (await on.run("reader", "/bin/busybox", "md5sum", path)).slice(0, 32);
}

for (const mode of ["erofs", "erofs-loop", "fuse"]) {
  describe(`containerd, lazy layers by ${mode}`, () => {
    test("pulls thirty layers without unpacking, runs, and removes", () =>
      withLazyContainerd(
        { members, between: changingLayers(28), settings: { lazy_mode: mode } },
        async (on) => {
          await on.rpull();
          const prepared = on.snapshotter.log.filter((line) =>
            line.includes('"remote-snapshot-prepared":"true"'),
          );
          assert.equal(prepared.length, 30, on.snapshotter.log.join("\n"));
          const expected = await unpackedTree(on.image, on.chain);
          await on.viewed(async (path) => assert.deepEqual(await treeAt(path), expected));
          assert.equal(await sumIn(on, "/data/linked"), md5(big));
          const changes = [
            "echo more >> /data/big",
            "! ls /bin/yes",
            "rm /data/program",
            "! ls /data/program",
          ];
          assert.equal(
            await on.run("writer", "sh", "-c", `${changes.join(" && ")} && echo as it should`),
            "as it should\n",
          );
          const list = await on.layers();
          assert.equal(list.mode, mode);
          assert.equal(list.layers.length, 29);
          const [head = "", , titles = "", ...rows] = (await on.ociw("layers")).trimEnd().split("\n");
          assert.equal(head, `Mounted by ${mode}`);
          assert.match(titles, /^LAYER +HERE +FETCHED +STATE +IMAGE$/);
          assert.equal(rows.length, 29);
          for (const row of rows) {
            assert.match(
              row,
              /^sha256:[0-9a-f]{12} +[━─]{20} +\S+ \/ \S+ +\S+ +(complete|background|on demand) +\S+\/test\/lazy:1$/,
            );
          }
          assert.match(await on.ociw("snapshotter"), new RegExp(`^Lazy layers: +by ${mode}$`, "m"));
          assert.match(
            await on.ociw("snapshots", "info", on.chain[0] ?? ""),
            /^Lazy: +sha256:[0-9a-f]{64}$/m,
          );
          await on.containerd.ctr("images", "remove", "--sync", on.image);
          await on.snapshotter.direct.cleanup();
          assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), []);
          assert.deepEqual(await mountPointsBeneath(join(on.snapshotter.root, "snapshots")), []);
        },
      ));
  });
}

describe("a lazy layer", () => {
  test("of stargz-snapshotter's making is one", () =>
    withLazyContainerd({ members, madeBy: "stargz-snapshotter" }, async (on) => {
      await on.rpull();
      assert.equal((await on.layers()).layers.length, 2);
      assert.equal(await sumIn(on, "/data/linked"), md5(big));
    }));

  test("may have its table of contents in another image", () =>
    withLazyContainerd({ members, hasExternalTocs: true }, async (on) => {
      await on.rpull();
      assert.equal((await on.layers()).layers.length, 2);
      await on.viewed(async (path) => {
        const lines = await treeAt(path);
        assert.ok(
          lines.some((line) => line.startsWith('"data/linked" ')),
          lines.join("\n"),
        );
      });
      assert.equal(await sumIn(on, "/data/linked"), md5(big));
    }));

  test("that cannot be had is unpacked, and the reason is told", () =>
    withLazyContainerd({ members }, async (on) => {
      const ordinary = `${on.line.host}/test/ordinary:1`;
      await runStargz(on.containerd, "images", "rpull", "--plain-http", "--snapshotter", proxied, ordinary);
      const line = await on.snapshotter.said(/"remote-snapshot-prepared":"false"/);
      assert.match(line, /without a table of contents|no label says the digest/);
      const run = ["run", "--rm", "--snapshotter", proxied, ordinary, "reader"];
      const printed = await on.containerd.ctrAtLast(...run, "/bin/busybox", "md5sum", "/data/linked");
      assert.equal(printed.slice(0, 32), md5(big));
      const unpacked = await Array.fromAsync(on.snapshotter.direct.walk(["kind==committed"]));
      const told = await on.ociw("snapshots", "info", unpacked[0]?.name ?? "");
      assert.match(told, /^Lazy: +no: .*(without a table of contents|no label says the digest)/m);
    }));
});

function md5(content: Buffer): string {
  return createHash("md5").update(content).digest("hex");
}
