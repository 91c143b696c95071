import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountPointsBeneath, unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { startProcess } from "../peers/process.ts";
import { snapshotterProgram } from "../peers/snapshotter.ts";
import { torture, tortureSettings } from "./kills.ts";
import { writeBase } from "./layer-content.ts";
import { Random } from "./random.ts";
import { baseName, SnapshotClient } from "./snapshot-client.ts";

const clientCount = 5;

/** Some ten calls of each client. */
const maxWorkMs = 200;

/** Runs `use` with a connection of its own. */
async function connected(address: string, use: (snapshotter: Snapshotter) => Promise<void>): Promise<void> {
  await using snapshotter = openProxy(address, { snapshotter: "torture" });
  await use(snapshotter);
}

async function commitBase(snapshotter: Snapshotter, workDir: string): Promise<void> {
  const mounts = await snapshotter.prepare("filling", undefined, {});
  {
    await using directory = await mountTemporarily(mounts, workDir);
    writeBase(directory.path);
  }
  await snapshotter.commit(baseName, "filling", {});
}

/** Asserts that there is a directory for each snapshot that needs one, and no other once it is cleaned up. */
async function assertNoOrphans(root: string, infos: readonly Info[]): Promise<void> {
  const needed = infos.filter(({ kind, parent }) => kind !== "view" || parent === undefined);
  assert.equal((await readdir(join(root, "snapshots"))).length, needed.length, "directories of snapshots");
}

/** Asserts that nothing is wrong with the database that a process which was stopped has left. */
function assertIntegrity(root: string): void {
  const database = new DatabaseSync(join(root, "metadata.db"), { readOnly: true });
  try {
    assert.deepEqual({ ...database.prepare("PRAGMA integrity_check").get() }, { integrity_check: "ok" });
    assert.deepEqual(database.prepare("PRAGMA foreign_key_check").all(), []);
  } finally {
    database.close();
  }
}

describe("oci-snapshotter, killed at any moment,", () => {
  for (const [backend, ...flags] of [["overlayfs"], ["native", "--sync-on-commit"]] as const) {
    test(`has on ${backend} all that it acknowledged, and nothing half`, async (t) => {
      const settings = tortureSettings(process.env);
      t.diagnostic(`TORTURE_SEED=${settings.seed} TORTURE_KILLS=${settings.kills}`);
      await using directory = await mkdtempDisposable(join(tmpdir(), "torture-"));
      await using mounts = new AsyncDisposableStack();
      mounts.defer(async () => void (await unmountBeneath(directory.path)));
      const root = join(directory.path, "root");
      const address = join(directory.path, "s.sock");
      const workDir = join(directory.path, "work");
      await mkdir(workDir);
      const random = new Random(settings.seed);
      const clients = Array.from(
        { length: clientCount },
        (_, index) => new SnapshotClient(`client-${index}`, workDir, random.fork()),
      );
      const ofAll = (action: (client: SnapshotClient) => Promise<void>) => Promise.all(clients.map(action));
      const program = snapshotterProgram({ root, address, backend, flags });
      {
        await using _first = await startProcess(program);
        await connected(address, (snapshotter) => commitBase(snapshotter, workDir));
      }

      const running = await torture(
        {
          program,
          maxWorkMs,
          work: (killed) =>
            connected(address, async (snapshotter) => {
              await ofAll((client) => client.work(snapshotter, killed));
            }),
          check: () =>
            connected(address, async (snapshotter) => {
              // The first call after a crash has to succeed.
              await snapshotter.prepare("first call", baseName, {});
              await snapshotter.remove("first call");
              const infos = await Array.fromAsync(snapshotter.walk([]));
              await ofAll((client) => client.check(snapshotter, infos));
              await snapshotter.cleanup();
              await assertNoOrphans(root, infos);
            }),
        },
        settings,
      );

      await connected(address, async (snapshotter) => {
        await ofAll((client) => client.removeAll(snapshotter));
        await snapshotter.remove(baseName);
        await snapshotter.cleanup();
        assert.deepEqual(await Array.fromAsync(snapshotter.walk([])), []);
      });
      assert.deepEqual(await readdir(join(root, "snapshots")), []);
      assert.equal(await running.stop(), 0);
      assertIntegrity(root);
      assert.deepEqual(await mountPointsBeneath(directory.path), []);
    });
  }
});
