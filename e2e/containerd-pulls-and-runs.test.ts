import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { withContainerd } from "./peers/containerd-on-snapshotter.ts";
import { startProcess } from "./peers/process.ts";
import { backends } from "./peers/snapshotter.ts";

for (const backend of backends) {
  describe(`containerd on our snapshotter, ${backend}`, () => {
    test("pulls an image, runs containers on it that do not change it, and gives the disk back", (context) =>
      withContainerd(backend, async (on) => {
        const [base = "", top = ""] = on.chain;
        context.diagnostic(`containerd ${on.containerd.version}`);
        await on.pull();
        const rows = [
          [top, base, "Committed"],
          [base, "Committed"],
        ];
        assert.deepEqual(
          await on.listed(),
          rows.sort((one, other) => String(one[0]).localeCompare(String(other[0]))),
        );
        assert.equal(await on.run("reader", "cat", "/etc/greeting"), "hello\n");
        const change = "echo changed > /etc/greeting; rm /bin/id; cat /etc/greeting";
        assert.equal(await on.run("writer", "sh", "-c", change), "changed\n");
        assert.equal(await on.run("another", "sh", "-c", "cat /etc/greeting; id -u"), "hello\n0\n");

        await on.containerd.ctr("images", "remove", "--sync", on.image);
        assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), []);
        assert.equal(await on.directories(), 0);
      }));

    test("collects its garbage by itself, and the directories go with it", () =>
      withContainerd(backend, async (on) => {
        await on.pull();
        await on.run("gone", "true");
        // Its collector runs before this returns, and nobody else asks for a clean-up.
        await on.containerd.ctr("images", "remove", "--sync", on.image);
        await on.snapshotter.said(new RegExp(`Snapshots/Remove".*"code":"OK".*${on.chain[0]}`));
        await on.snapshotter.said(/Snapshots\/Cleanup".*"code":"OK"/);
        assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), []);
        assert.deepEqual(await readdir(join(on.snapshotter.root, "snapshots")), []);
      }));

    test("keeps its snapshots from a worker that is given the same snapshotter by mistake", () =>
      withContainerd(backend, async (on) => {
        await on.pull();
        await on.snapshots("prepare", "in-use", on.chain[1] ?? "");
        const before = await Array.fromAsync(on.snapshotter.direct.walk([]));
        const { address, said } = on.snapshotter;
        await using directory = await mkdtempDisposable(join(tmpdir(), "mistaken-"));
        const socket = join(directory.path, "worker.sock");
        const root = ["--root", join(directory.path, "root"), "--addr", `unix://${socket}`];
        const start = async () => {
          await using _worker = await startProcess({
            program: join(import.meta.dirname, "../services/worker/bin/oci-worker"),
            args: [...root, "--oci-worker-proxy-snapshotter-path", address],
            ready: /"name":"worker".*"msg":"serving"/,
          });
        };
        await assert.rejects(
          start,
          /Cannot use the snapshotter at \S+: .*this root belongs to client "ours".*want an oci-snapshotter for each/,
        );
        await said(/"client":"auto","keys":"own","owner":"ours".*second client on this root refused/);
        // What a garbage collector does that does not know them.
        await using buildkit = openProxy(address, { snapshotter: "overlayfs" });
        await assert.rejects(buildkit.remove(before[0]?.name ?? ""), FailedPreconditionError);
        assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), before);
      }));
  });
}
