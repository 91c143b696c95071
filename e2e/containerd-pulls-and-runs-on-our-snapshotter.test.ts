import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AlreadyExistsError, FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { formatReference } from "@oci-worker/oci/reference";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { type ContainerdPeer, proxied, startContainerd } from "./peers/containerd.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { type SnapshotterPeer, startSnapshotter } from "./peers/snapshotter.ts";

const uncompressed = "application/vnd.oci.image.layer.v1.tar";

interface Setting extends AsyncDisposable {
  readonly containerd: ContainerdPeer;
  readonly snapshotter: SnapshotterPeer;
  /** Name of the image in the registry. */
  readonly image: string;
  /** Names of the snapshots of its layers, the lowest first. */
  readonly chain: readonly string[];
}

/** A registry with a two-layer image, a containerd, and our snapshotter as its plugin. */
async function open(backend: "native" | "overlayfs"): Promise<Setting> {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const small = await createImage({ files: { "/etc/greeting": "hello\n" } });
  const reference = await pushTo(registry, small);
  const snapshotter = undo.use(await startSnapshotter(backend));
  const containerd = undo.use(await startContainerd(snapshotter.address));
  const owned = undo.move();
  return {
    containerd,
    snapshotter,
    image: formatReference(reference),
    chain: chainIDs(small.diffIDs),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function withSetting(
  backend: "native" | "overlayfs",
  use: (on: Setting) => Promise<void>,
): Promise<void> {
  await using on = await open(backend);
  await use(on);
}

/** Pulls the image, unpacked on our snapshotter. */
async function pull({ containerd, image }: Setting): Promise<void> {
  await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", proxied, image);
}

/** Runs a command in a container of the image, and gives what it prints. */
function runOn({ containerd, image }: Setting, id: string, ...command: string[]): Promise<string> {
  return containerd.ctrAtLast("run", "--rm", "--snapshotter", proxied, image, id, ...command);
}

function snapshots({ containerd }: Setting, ...args: string[]): Promise<string> {
  return containerd.ctr("snapshots", "--snapshotter", proxied, ...args);
}

/** Lines of `ctr snapshots list`: key, parent, kind. */
async function listed(on: Setting): Promise<string[][]> {
  const [, ...lines] = (await on.containerd.ctrAtLast("snapshots", "--snapshotter", proxied, "list"))
    .trimEnd()
    .split("\n");
  return lines.map((line) => line.trimEnd().split(/\s+/));
}

/** The directory in which the root of a container is mounted, once the container runs. */
async function containerRoot({ containerd }: Setting, id: string): Promise<string> {
  await containerd.ctrAtLast("tasks", "metrics", id);
  const suffix = `/${containerd.namespace}/${id}/rootfs`;
  const mount = (await readMountInfo()).find(({ mountPoint }) => mountPoint.endsWith(suffix));
  assert(mount !== undefined, `nothing is mounted at ${suffix}`);
  return mount.mountPoint;
}

/** How many directories of snapshots are on disk, once clean-ups that were asked for have ended. */
async function directories({ snapshotter }: Setting): Promise<number> {
  await snapshotter.direct.cleanup();
  return (await readdir(join(snapshotter.root, "snapshots"))).length;
}

for (const backend of ["overlayfs", "native"] as const) {
  describe(`containerd on our snapshotter, ${backend}`, () => {
    test("pulls an image, runs containers on it that do not change it, and gives the disk back", (context) =>
      withSetting(backend, async (on) => {
        const [base = "", top = ""] = on.chain;
        context.diagnostic(`containerd ${on.containerd.version}`);
        await pull(on);
        assert.deepEqual(
          await listed(on),
          [
            [top, base, "Committed"],
            [base, "Committed"],
          ].sort((one, other) => String(one[0]).localeCompare(String(other[0]))),
        );
        assert.equal(await runOn(on, "reader", "cat", "/etc/greeting"), "hello\n");
        assert.equal(
          await runOn(
            on,
            "writer",
            "sh",
            "-c",
            "echo changed > /etc/greeting; rm /bin/id; cat /etc/greeting",
          ),
          "changed\n",
        );
        assert.equal(await runOn(on, "another", "sh", "-c", "cat /etc/greeting; id -u"), "hello\n0\n");

        await on.containerd.ctr("images", "remove", "--sync", on.image);
        assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), []);
        assert.equal(await directories(on), 0);
      }));

    test("uses every verb of `ctr snapshots`", () =>
      withSetting(backend, async (on) => {
        const [base = "", top = ""] = on.chain;
        await pull(on);
        const info = JSON.parse(await snapshots(on, "info", top));
        assert.deepEqual([info.Kind, info.Name, info.Parent], ["Committed", top, base]);
        assert.match(await snapshots(on, "tree"), new RegExp(`^\\s*${base}\\n\\s+.*${top}`));
        const usage = (await snapshots(on, "usage", "-b", top)).trim().split("\n")[1]?.split(/\s+/);
        assert.equal(usage?.[0], top);
        assert(Number(usage?.[1]) > 0 && Number(usage?.[2]) > 0);

        await snapshots(on, "prepare", "mine", top);
        await snapshots(on, "label", "mine", "containerd.io/snapshot/test=1");
        assert.equal(
          JSON.parse(await snapshots(on, "info", "mine")).Labels["containerd.io/snapshot/test"],
          "1",
        );
        await snapshots(on, "label", "mine", "containerd.io/snapshot/test=");
        assert.equal(
          JSON.parse(await snapshots(on, "info", "mine")).Labels?.["containerd.io/snapshot/test"],
          undefined,
        );
        assert.match(
          await snapshots(on, "mounts", "/target", "mine"),
          /^mount -t \S+ \S+ \/target -o \S+\n?$/,
        );
        // ctr gives it no label that would keep it from containerd's garbage collector: it goes by itself.
        await snapshots(on, "view", "glance", top);
        await assert.rejects(snapshots(on, "prepare", "mine", top), /already exists/);
        await assert.rejects(
          snapshots(on, "prepare", "orphan", "sha256:nothing"),
          /not found|does not exist/,
        );

        const { address, namespace } = on.containerd;
        await using through = openProxy(address, { snapshotter: proxied, namespace });
        await through.view("look", top, { "containerd.io/gc.root": "test" });
        await using scratch = await mkdtempDisposable(join(tmpdir(), "verbs-"));
        {
          await using mounted = await mountTemporarily(await through.mounts("mine"), scratch.path);
          await writeFile(join(mounted.path, "etc", "added"), "new\n");
        }
        await snapshots(on, "commit", "committed", "mine");
        const changes = await snapshots(on, "diff", "--media-type", uncompressed, "committed");
        assert(changes.includes("etc/added") && !changes.includes("busybox"));
        await assert.rejects(snapshots(on, "rm", top), /remove/);
        await snapshots(on, "rm", "look");
        await snapshots(on, "rm", "committed");
        const names = (await listed(on)).map(([name]) => name);
        assert.deepEqual(names.filter((name) => name !== "glance").sort(), [base, top].sort());
      }));

    for (const how of ["stop", "kill"] as const) {
      test(`goes on after a ${how} of the snapshotter, with all that was there`, () =>
        withSetting(backend, async (on) => {
          const [, top = ""] = on.chain;
          await pull(on);
          await snapshots(on, "prepare", "kept", top);
          const before = await Array.fromAsync(on.snapshotter.direct.walk([]));
          const mounts = await snapshots(on, "mounts", "/target", "kept");
          await on.snapshotter.restart(how);
          assert.deepEqual(await Array.fromAsync(on.snapshotter.direct.walk([])), before);
          assert.equal((await listed(on)).length, 3);
          assert.equal(await snapshots(on, "mounts", "/target", "kept"), mounts);
          assert.equal(await runOn(on, "afterwards", "cat", "/etc/greeting"), "hello\n");
          await snapshots(on, "rm", "kept");
          await on.containerd.ctr("images", "remove", "--sync", on.image);
          assert.equal(await directories(on), 0);
        }));
    }

    test("a container runs on while the snapshotter is away", () =>
      withSetting(backend, async (on) => {
        await pull(on);
        const script = "until [ -e /go ]; do sleep 0.1; done; cat /etc/greeting";
        const output = runOn(on, "long", "sh", "-c", script);
        const rootfs = await containerRoot(on, "long");
        await on.snapshotter.restart("kill");
        await writeFile(join(rootfs, "go"), "");
        assert.equal(await output, "hello\n");
      }));
  });
}

describe("our proxy", () => {
  test("speaks to containerd's own snapshotter, and its errors come back as what they mean", async () => {
    await using on = await open("overlayfs");
    const { address, namespace } = on.containerd;
    for (const snapshotter of ["overlayfs", proxied]) {
      await using through = openProxy(address, { snapshotter, namespace });
      await through.prepare("key", undefined, { "containerd.io/gc.root": "test" });
      await assert.rejects(through.prepare("key", undefined, {}), AlreadyExistsError);
      await through.commit("name", "key", { "containerd.io/gc.root": "test" });
      assert.equal((await through.stat("name")).kind, "committed");
      await assert.rejects(through.mounts("name"), FailedPreconditionError);
      await assert.rejects(through.stat("nothing"), NotFoundError);
      await through.view("look", "name", { "containerd.io/gc.root": "test" });
      await assert.rejects(through.remove("name"), FailedPreconditionError);
      const updated = await through.update("name", { merge: { "containerd.io/snapshot/a.b": "1" } });
      assert.equal(updated.labels["containerd.io/snapshot/a.b"], "1");
      const names = (await Array.fromAsync(through.walk(["kind==committed"]))).map(({ name }) => name);
      assert.deepEqual(names, ["name"]);
      assert.equal((await through.usage("name")).inodes, 1n);
      await through.remove("look");
      await through.remove("name");
    }
  });
});
