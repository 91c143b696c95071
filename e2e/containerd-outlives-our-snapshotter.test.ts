import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import { proxied } from "./peers/containerd.ts";
import { type ContainerdOnSnapshotter, withContainerd } from "./peers/containerd-on-snapshotter.ts";
import { backends } from "./peers/snapshotter.ts";

/** The directory in which the root of a container is mounted, once the container runs. */
async function containerRoot({ containerd }: ContainerdOnSnapshotter, id: string): Promise<string> {
  await containerd.ctrAtLast("tasks", "metrics", id);
  const suffix = `/${containerd.namespace}/${id}/rootfs`;
  const mount = (await readMountInfo()).find(({ mountPoint }) => mountPoint.endsWith(suffix));
  assert(mount !== undefined, `nothing is mounted at ${suffix}`);
  return mount.mountPoint;
}

/** So many files that they take a while to unpack. */
const manyFiles = Object.fromEntries(
  Array.from({ length: 4000 }, (_, index) => [`/data/${index % 50}/${index}`, `content ${index}\n`]),
);

for (const backend of backends) {
  describe(`containerd, ${backend}`, () => {
    for (const how of ["stop", "kill"] as const) {
      test(`goes on after a ${how} of the snapshotter, with all that was there`, () =>
        withContainerd(backend, async (on) => {
          const [, top = ""] = on.chain;
          await on.pull();
          await on.snapshots("prepare", "kept", top);
          const before = await Array.fromAsync(on.snapshotter.direct.walk([]));
          const mounts = await on.snapshots("mounts", "/target", "kept");
          await on.snapshotter.restart(how);
          assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), before);
          assert.equal((await on.listed()).length, 3);
          assert.equal(await on.snapshots("mounts", "/target", "kept"), mounts);
          assert.equal(await on.run("afterwards", "cat", "/etc/greeting"), "hello\n");
          await on.snapshots("rm", "kept");
          await on.containerd.ctr("images", "remove", "--sync", on.image);
          assert.equal(await on.directories(), 0);
        }));
    }

    test("runs a container on while the snapshotter is away", () =>
      withContainerd(backend, async (on) => {
        await on.pull();
        const script = "until [ -e /go ]; do sleep 0.1; done; cat /etc/greeting";
        const output = on.run("long", "sh", "-c", script);
        const rootfs = await containerRoot(on, "long");
        await on.snapshotter.restart("kill");
        await writeFile(`${rootfs}/go`, "");
        assert.equal(await output, "hello\n");
      }));

    test("pulls again what a snapshotter that was killed has left half unpacked, and nothing stays of it", (context) =>
      withContainerd(
        backend,
        async (on) => {
          const [, top = ""] = on.chain;
          const [pulled] = await Promise.allSettled([
            on.pull(),
            // The upper layer is being unpacked once it is prepared.
            on.snapshotter
              .said(/Snapshots\/Prepare".*"code":"OK".*"parent":/)
              .then(() => on.snapshotter.restart("kill")),
          ]);
          context.diagnostic(`the pull in the middle was ${pulled.status}`);
          // containerd dials again only after a while.
          const pull = ["pull", "--plain-http", "--snapshotter", proxied, on.image];
          await on.containerd.ctrAtLast("images", ...pull);
          const names = (await on.listed()).map(([name]) => name);
          assert(names.includes(top));
          assert.equal(await on.run("whole", "cat", "/data/49/3999"), "content 3999\n");
          assert.equal((await on.run("count", "sh", "-c", "ls /data/7")).trim().split("\n").length, 80);
          await on.containerd.ctr("images", "remove", "--sync", on.image);
          const left = await Array.fromAsync(on.snapshotter.direct.walk([]));
          assert.equal(await on.directories(), left.length);
          assert.deepEqual(left, []);
        },
        manyFiles,
      ));
  });
}
