import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  AlreadyExistsError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
} from "@oci-worker/errdefs";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { pino } from "pino";
import { openSnapshotter } from "../backends/open.ts";
import { digestLabel, FakeLayers } from "../backends/stargz/fake-layers.ts";
import { type Config, defaults } from "../config.ts";
import { serveSnapshotter } from "../server.ts";
import { Ownership } from "./ownership.ts";

type Line = Readonly<Record<string, unknown>>;

/** A snapshotter that serves, and is started again on the same root by each {@link Scene.run}. */
interface Scene {
  run(
    settings: Partial<Config>,
    use: (by: (name: string) => Snapshotter, lines: readonly Line[]) => Promise<void>,
    layers?: FakeLayers,
  ): Promise<void>;
}

async function withScene(use: (scene: Scene) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "ownership-"));
  const run: Scene["run"] = async (settings, useOnce, layers) => {
    await using undo = new AsyncDisposableStack();
    const lines: Line[] = [];
    const log = pino({ level: "info" }, { write: (line) => void lines.push(JSON.parse(line)) });
    const address = join(directory.path, "s.sock");
    const root = join(directory.path, "root");
    const config: Config = { ...defaults, address, root, snapshotter: "native", ...settings };
    const snapshotter = undo.use(await openSnapshotter(config, log, layers?.parts()));
    const ownership = new Ownership({ ...config, record: snapshotter.ownerRecord, log });
    undo.use(await serveSnapshotter({ ...config, ownership }, snapshotter, log));
    await useOnce((name) => undo.use(openProxy(address, { snapshotter: name })), lines);
  };
  await use({ run });
}

/** Every call that changes something, of a snapshot "kept" that is there and others that are not. */
function changes(of: Snapshotter): Readonly<Record<string, () => Promise<unknown>>> {
  return {
    prepare: () => of.prepare("new", undefined, {}),
    view: () => of.view("new", undefined, {}),
    commit: () => of.commit("name", "kept", {}),
    update: () => of.update("kept", { merge: { a: "1" } }),
    remove: () => of.remove("kept"),
  };
}

describe("a root", () => {
  test("is its client's who was told that a layer is in place, and others may call that by its name", () =>
    withScene(async ({ run }) => {
      const layers = new FakeLayers();
      const chainID = `sha256:${"0b1c".repeat(16)}`;
      const labels = { "containerd.io/snapshot.ref": chainID, [digestLabel]: "digest" };
      await run(
        { snapshotter: "stargz" },
        async (by) => {
          const client = by("ours");
          await assert.rejects(client.prepare("k8s.io/1/extract", undefined, labels), AlreadyExistsError);
          await assert.rejects(by("other").remove(chainID), FailedPreconditionError);
          await client.remove(chainID);
          await client.prepare("k8s.io/2/key", undefined, {});
          await client.cleanup();
        },
        layers,
      );
    }));

  test("is its client's, and changes by another one are refused with the way to a second instance", () =>
    withScene(({ run }) =>
      run({}, async (by, lines) => {
        await by("ours").prepare("kept", undefined, {});
        for (const change of Object.values(changes(by("other")))) {
          await assert.rejects(change(), (error) => {
            assert(error instanceof FailedPreconditionError);
            assert.match(error.message, /for client "other" .*belongs to client "ours"/);
            assert.match(error.message, /an oci-snapshotter for each, with --root and --address of its own/);
            assert.match(error.message, /--client "other"/);
            return true;
          });
        }
        const told = lines.filter(({ msg }) => msg === "second client on this root refused");
        assert.deepEqual(
          told.map(({ level, client, owner }) => [level, client, owner]),
          [[40, "other", "ours"]],
        );
        await by("ours").remove("kept");
      }),
    ));

  test("is for everybody to look at, and to clean up", () =>
    withScene(({ run }) =>
      run({}, async (by) => {
        const mounts = await by("ours").prepare("kept", undefined, {});
        const other = by("other");
        assert.equal((await other.stat("kept")).name, "kept");
        assert.deepEqual(await other.mounts("kept"), mounts);
        assert.equal((await Array.fromAsync(other.walk([]))).length, 1);
        await other.usage("kept");
        await other.cleanup();
      }),
    ));

  test("does not become that of somebody who looks, or fails, or gives no name", () =>
    withScene(({ run }) =>
      run({}, async (by) => {
        const passing = by("passing");
        assert.deepEqual(await Array.fromAsync(passing.walk([])), []);
        await assert.rejects(passing.remove("nothing"), NotFoundError);
        await assert.rejects(passing.prepare("key", "nothing", {}), NotFoundError);
        await assert.rejects(passing.prepare("", undefined, {}), InvalidArgumentError);
        await by("").prepare("a person's", undefined, {});
        await by("ours").prepare("kept", undefined, {});
        await assert.rejects(passing.prepare("key", undefined, {}), FailedPreconditionError);
        await by("").remove("kept");
      }),
    ));

  test("goes to one of two that come at the same time", () =>
    withScene(({ run }) =>
      run({}, async (by) => {
        const names = ["a", "b", "c"];
        const outcomes = await Promise.allSettled(
          names.flatMap((name) => {
            const client = by(name);
            return [1, 2, 3].map((number) => client.prepare(`${name} ${number}`, undefined, {}));
          }),
        );
        const kept = (await Array.fromAsync(by("").walk([]))).map((info) => info.name[0]);
        assert.equal(new Set(kept).size, 1);
        assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 3);
      }),
    ));

  test("stays its client's over a restart, and is free again when nothing is left on it", () =>
    withScene(async ({ run }) => {
      await run({}, async (by) => void (await by("ours").prepare("kept", undefined, {})));
      await run({}, async (by) => {
        await assert.rejects(by("other").remove("kept"), FailedPreconditionError);
        await by("ours").remove("kept");
        await assert.rejects(by("other").prepare("key", undefined, {}), FailedPreconditionError);
      });
      await run({}, async (by) => void (await by("other").prepare("key", undefined, {})));
    }));

  test("is handed over to the client that the operator names", () =>
    withScene(async ({ run }) => {
      await run({}, async (by) => void (await by("old").prepare("kept", undefined, {})));
      await run({ client: "new" }, async (by, lines) => {
        assert(
          lines.some(({ msg, from, to }) => /handed over/.test(`${msg}`) && from === "old" && to === "new"),
        );
        await assert.rejects(by("old").remove("kept"), FailedPreconditionError);
        await by("new").update("kept", { merge: { a: "1" } });
      });
      await run({}, async (by) => {
        await assert.rejects(by("old").remove("kept"), FailedPreconditionError);
        await by("new").remove("kept");
      });
    }));

  test("that is meant for one client is nobody else's from the start", () =>
    withScene(({ run }) =>
      run({ client: "ours" }, async (by) => {
        await assert.rejects(by("other").prepare("key", undefined, {}), FailedPreconditionError);
        await assert.rejects(by("ours").remove("nothing"), NotFoundError);
        await assert.rejects(by("other").prepare("key", undefined, {}), FailedPreconditionError);
        await by("ours").prepare("key", undefined, {});
      }),
    ));

  test("takes all name spaces of a containerd for one client, and whoever has other keys for another", () =>
    withScene(async ({ run }) => {
      await run({}, async (by) => {
        const client = by("auto");
        await client.prepare("k8s.io/1/extract sha256:1", undefined, {});
        await client.prepare("default/1/mine", undefined, {});
        await client.commit("buildkit/7/sha256:2", "default/1/mine", {});
        await assert.rejects(client.prepare("extract sha256:1", undefined, {}), (error) => {
          assert(error instanceof FailedPreconditionError);
          assert.match(
            error.message,
            /client "auto" with keys of its own make: .* as containerd's metadata makes/,
          );
          assert.doesNotMatch(error.message, /--client/);
          return true;
        });
      });
      await run({}, (by) =>
        assert.rejects(by("auto").prepare("key", undefined, {}), FailedPreconditionError),
      );
    }));

  test("may be shared by whoever takes the risk, who is warned once of each other client", () =>
    withScene(({ run }) =>
      run({ allowSeveralClients: true }, async (by, lines) => {
        await by("a").prepare("kept", undefined, {});
        for (let count = 0; count < 3; count += 1) {
          await by("b").prepare(`key ${count}`, undefined, {});
        }
        await by("b").remove("kept");
        const warnings = lines.filter(
          ({ level, msg }) => level === 40 && msg === "second client on this root",
        );
        assert.deepEqual(
          warnings.map(({ client, owner }) => [client, owner]),
          [["b", "a"]],
        );
      }),
    ));

  test("has a log that nobody fills with names", () =>
    withScene(({ run }) =>
      run({}, async (by, lines) => {
        await by("ours").prepare("kept", undefined, {});
        const before = lines.length;
        await Promise.all(
          Array.from({ length: 40 }, (_, index) =>
            assert.rejects(by(`${index}`).remove("kept"), FailedPreconditionError),
          ),
        );
        await assert.rejects(by("x".repeat(10_000)).remove("kept"), InvalidArgumentError);
        assert.equal(lines.length - before, 16);
      }),
    ));
});
