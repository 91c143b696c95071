import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { Health } from "@oci-worker/api/grpc/health";
import { CandidateState, SnapshotterService } from "@oci-worker/api/ociworker/snapshotter";
import { AlreadyExistsError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { listLazyLayers } from "@oci-worker/snapshots/lazy-layers";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { pino } from "pino";
import { openSnapshotter } from "../backends/open.ts";
import { digestLabel, FakeLayers } from "../backends/stargz/fake-layers.ts";
import { type Config, defaults } from "../config.ts";
import { serveSnapshotter } from "../server.ts";

interface Served {
  readonly client: Client<typeof SnapshotterService>;
  readonly channel: Transport;
  readonly health: Client<typeof Health>;
  readonly snapshotter: Snapshotter;
  readonly root: string;
}

async function withServed(
  settings: Partial<Config>,
  use: (served: Served) => Promise<void>,
  layers?: FakeLayers,
): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "snapshotter-service-"));
  const root = join(directory.path, "root");
  const log = pino({ level: "silent" });
  const config = { ...defaults, ...settings, root, address: join(directory.path, "s.sock") };
  await using snapshotter = await openSnapshotter(config, log, layers?.parts());
  const { inspector } = snapshotter;
  await using _server = await serveSnapshotter({ ...config, inspector }, snapshotter, log);
  using channel = unixChannel(config.address);
  const client = createClient(SnapshotterService, channel);
  await use({ client, channel, health: createClient(Health, channel), snapshotter, root });
}

describe("SnapshotterService", () => {
  test("tells the backend, why it is that one, and what became of the others", () =>
    withServed({ autoExclude: ["overlayfs"] }, async ({ client, snapshotter, root }) => {
      await snapshotter.prepare("filling", undefined, {});
      await snapshotter.commit("base", "filling", {});
      await snapshotter.prepare("key", "base", {});
      const described = await client.describe({});
      assert.deepEqual(
        [described.backend, described.wanted, described.reason, described.root, described.canRebase],
        ["fuse-overlayfs", "auto", "first that runs here", root, true],
      );
      assert.deepEqual(
        described.candidates.map(({ backend, state, obstacle }) => [backend, state, obstacle]),
        [
          ["overlayfs", CandidateState.PASSED_OVER, "autoExclude refuses it"],
          ["fuse-overlayfs", CandidateState.CHOSEN, ""],
          ["native", CandidateState.NOT_TRIED, ""],
        ],
      );
      const { active, view, committed } = described.snapshots ?? {};
      assert.deepEqual([active, view, committed], [1n, 0n, 1n]);
      assert.equal(described.processId, BigInt(process.pid));
      assert.deepEqual(
        [described.mountOptions, described.syncOnCommit, described.upperdirLabel, described.owner],
        [[], false, false, ""],
      );
      assert.match(described.version, /^\d+\.\d+\.\d+/);
    }));

  test("tells what a snapshot is made of, and why it cannot be removed", () =>
    withServed({ snapshotter: "overlayfs" }, async ({ client, snapshotter, root }) => {
      await snapshotter.prepare("filling", undefined, {});
      await snapshotter.commit("base", "filling", {});
      await snapshotter.prepare("filling more", "base", {});
      await snapshotter.commit("top", "filling more", {});
      const maps = {
        "containerd.io/snapshot/uidmapping": "0:5:9",
        "containerd.io/snapshot/gidmapping": "0:6:9",
      };
      await snapshotter.prepare("mapped", "top", { ...maps, "containerd.io/gc.root": "1" });
      assert.deepEqual((await client.explain({ key: "mapped" })).labels, maps);
      const mounts = await snapshotter.prepare("key", "top", {});
      const active = await client.explain({ key: "key" });
      assert.equal(active.kind, "active");
      assert.deepEqual(active.ancestors, ["top", "base"]);
      assert(active.directory.startsWith(`${root}/snapshots/`));
      assert.deepEqual(
        active.mounts.map(({ type, source, options }) => ({ type, source, options })),
        mounts,
      );
      assert.equal(active.removalObstacle, "");
      assert.deepEqual(active.mountPoints, []);
      {
        await using scratch = await mkdtempDisposable(join(tmpdir(), "explained-"));
        await using mounted = await mountTemporarily(mounts, scratch.path);
        for (const key of ["key", "top", "base"]) {
          assert.deepEqual((await client.explain({ key })).mountPoints, [mounted.path], key);
        }
      }

      const base = await client.explain({ key: "base" });
      assert.deepEqual([base.kind, base.mounts, base.ancestors], ["committed", [], []]);
      await assert.rejects(
        snapshotter.remove("base"),
        (error) => error instanceof Error && error.message === base.removalObstacle,
      );

      await snapshotter.view("look", "top", {});
      assert.equal((await client.explain({ key: "look" })).directory, "");
      await assert.rejects(
        client.explain({ key: "nothing" }),
        (error) => error instanceof ConnectError && error.code === Code.NotFound,
      );
    }));

  test("tells the options in force", () =>
    withServed(
      { snapshotter: "overlayfs", mountOptions: ["xino=off"], upperdirLabel: true, syncOnCommit: true },
      async ({ client }) => {
        const { mountOptions, syncOnCommit, upperdirLabel } = await client.describe({});
        assert.deepEqual(
          [mountOptions, syncOnCommit, upperdirLabel],
          [["index=off", "xino=off"], true, true],
        );
      },
    ));

  test("tells of lazy layers, and which snapshots show them", () =>
    withServed(
      { snapshotter: "stargz" },
      async ({ client, channel, snapshotter, root }) => {
        await using undo = new AsyncDisposableStack();
        undo.defer(async () => void (await unmountBeneath(root)));
        for (const target of ["one", "two"]) {
          const labels = { "containerd.io/snapshot.ref": target, [digestLabel]: "digest" };
          await assert.rejects(snapshotter.prepare("key", undefined, labels), AlreadyExistsError);
        }
        const list = await listLazyLayers(channel);
        assert.deepEqual(list, {
          mode: "tmpfs",
          passedOver: [{ mode: "erofs", obstacle: "this is a test" }],
          layers: [
            {
              digest: "digest",
              reference: "registry.example/app:1",
              tocDigest: "toc of digest",
              snapshots: ["one", "two"],
              contentBytes: 2000,
              cachedBytes: 1000,
              verifiedBytes: 500,
              fetchedBytes: 100,
              complete: false,
              activity: "background",
              host: "https://registry.example",
              failure: "HTTP 500",
              failedAt: new Date(1000),
            },
          ],
        });
        assert.equal((await client.explain({ key: "one" })).lazyLayerDigest, "digest");
      },
      new FakeLayers(),
    ));

  test("has no lazy layers on another backend", () =>
    withServed({ snapshotter: "native" }, async ({ channel }) => {
      assert.deepEqual(await listLazyLayers(channel), { layers: [], passedOver: [] });
    }));

  test("is named by the health service", () =>
    withServed({ snapshotter: "native" }, async ({ health }) => {
      await health.check({ service: SnapshotterService.typeName });
    }));
});
