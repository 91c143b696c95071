import assert from "node:assert/strict";
import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AlreadyExistsError, FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { digestOf } from "@oci-worker/oci/digest";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { proxied } from "./peers/containerd.ts";
import { type ContainerdOnSnapshotter, withContainerd } from "./peers/containerd-on-snapshotter.ts";
import { backends } from "./peers/snapshotter.ts";

/** Keeps a snapshot from containerd's garbage collector. */
const rooted = { "containerd.io/gc.root": "test" } as const;

/** The snapshotter as containerd offers it to its clients. */
function throughContainerd({ containerd: { address, namespace } }: ContainerdOnSnapshotter) {
  return openProxy(address, { snapshotter: proxied, namespace });
}

for (const backend of backends) {
  describe(`ctr snapshots on our snapshotter, ${backend}`, () => {
    test("ls, tree, info and usage tell what an image takes up", () =>
      withContainerd(backend, async (on) => {
        const [base = "", top = ""] = on.chain;
        await on.pull();
        const rows = await on.listed();
        assert.deepEqual(new Set(rows.map(([name]) => name)), new Set([base, top]));
        const info = JSON.parse(await on.snapshots("info", top));
        assert.deepEqual([info.Kind, info.Name, info.Parent], ["Committed", top, base]);
        assert.match(await on.snapshots("tree"), new RegExp(`^\\s*${base}\\n\\s+.*${top}`));
        const usage = (await on.snapshots("usage", "-b", top)).trim().split("\n")[1]?.split(/\s+/);
        assert.equal(usage?.[0], top);
        assert(Number(usage?.[1]) > 0 && Number(usage?.[2]) > 0);
      }));

    test("prepare, view and mounts give mounts that show the image", () =>
      withContainerd(backend, async (on) => {
        const [, top = ""] = on.chain;
        await on.pull();
        await using scratch = await mkdtempDisposable(join(tmpdir(), "verbs-"));
        const line = /^mount -t \S+ \S+ \/target -o \S+\n?$/;
        assert.match(await on.snapshots("prepare", "--target", "/target", "mine", top), line);
        assert.match(await on.snapshots("mounts", "/target", "mine"), line);
        // ctr gives a view no label that would keep it from containerd's garbage collector: it may go by itself.
        assert.match(await on.snapshots("view", "--target", "/target", "glance", top), line);
        await assert.rejects(on.snapshots("prepare", "mine", top), /already exists/);
        await assert.rejects(on.snapshots("prepare", "orphan", "sha256:nothing"), /not found|does not exist/);
        await using through = throughContainerd(on);
        await through.view("look", top, rooted);
        for (const key of ["mine", "look"]) {
          await using mounted = await mountTemporarily(await through.mounts(key), scratch.path);
          const greeting = join(mounted.path, "etc/greeting");
          assert.equal(await readFile(greeting, "utf8"), "hello\n");
          if (key === "look") {
            await assert.rejects(writeFile(greeting, ""), { code: "EROFS" });
          }
        }
      }));

    test("label sets labels and takes them away", () =>
      withContainerd(backend, async (on) => {
        await on.pull();
        await on.snapshots("prepare", "mine", on.chain[1] ?? "");
        const label = "containerd.io/snapshot/test";
        const labels = async () => JSON.parse(await on.snapshots("info", "mine")).Labels ?? {};
        await on.snapshots("label", "mine", `${label}=1`);
        assert.equal((await labels())[label], "1");
        assert(on.snapshotter.log.some((line) => /Snapshots\/Update".*"code":"OK".*\/mine"/.test(line)));
        await on.snapshots("label", "mine", `${label}=`);
        assert.equal((await labels())[label], undefined);
      }));

    test("commit keeps what was written, diff tells it, and rm refuses what has children", () =>
      withContainerd(backend, async (on) => {
        const [base = "", top = ""] = on.chain;
        await on.pull();
        await on.snapshots("prepare", "mine", top);
        await using through = throughContainerd(on);
        await using scratch = await mkdtempDisposable(join(tmpdir(), "verbs-"));
        {
          await using mounted = await mountTemporarily(await through.mounts("mine"), scratch.path);
          await writeFile(join(mounted.path, "etc", "added"), "new\n");
        }
        await on.snapshots("commit", "committed", "mine");
        const uncompressed = "application/vnd.oci.image.layer.v1.tar";
        const changes = await on.snapshots("diff", "--media-type", uncompressed, "committed");
        assert(changes.includes("etc/added") && !changes.includes("busybox"));
        await assert.rejects(on.snapshots("rm", top), /remove/);
        await on.snapshots("rm", "committed");
        assert.deepEqual((await on.listed()).map(([name]) => name).sort(), [base, top].sort());
      }));

    test("unpack makes of content that was fetched what a pull makes", () =>
      withContainerd(backend, async (on) => {
        const { containerd, content } = on;
        await containerd.ctr("content", "fetch", "--plain-http", on.image);
        assert.deepEqual(await on.listed(), []);
        // This verb alone does not look at the flag of `ctr snapshots`.
        await on.snapshots("unpack", "--snapshotter", proxied, digestOf(content.manifest));
        assert.deepEqual((await on.listed()).map(([name]) => name).sort(), [...on.chain].sort());
        assert.equal(await on.run("unpacked", "cat", "/etc/greeting"), "hello\n");
      }));
  });
}

describe("our proxy", () => {
  test("speaks to containerd's own snapshotter, and its errors come back as what they mean", () =>
    withContainerd("overlayfs", async (on) => {
      const { address, namespace } = on.containerd;
      for (const snapshotter of ["overlayfs", proxied]) {
        await using through = openProxy(address, { snapshotter, namespace });
        await through.prepare("key", undefined, rooted);
        await assert.rejects(through.prepare("key", undefined, {}), AlreadyExistsError);
        await through.commit("name", "key", rooted);
        assert.equal((await through.stat("name")).kind, "committed");
        await assert.rejects(through.mounts("name"), FailedPreconditionError);
        await assert.rejects(through.stat("nothing"), NotFoundError);
        await through.view("look", "name", rooted);
        await assert.rejects(through.remove("name"), FailedPreconditionError);
        const updated = await through.update("name", { merge: { "containerd.io/snapshot/a.b": "1" } });
        assert.equal(updated.labels["containerd.io/snapshot/a.b"], "1");
        const names = (await Array.fromAsync(through.walk(["kind==committed"]))).map(({ name }) => name);
        assert.deepEqual(names, ["name"]);
        assert.equal((await through.usage("name")).inodes, 1n);
        await through.remove("look");
        await through.remove("name");
      }
    }));
});
