import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountPointsBeneath, unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { createDisk } from "../peers/disk.ts";
import { startProcess } from "../peers/process.ts";
import { type SnapshotterSettings, snapshotterProgram } from "../peers/snapshotter.ts";
import { type Torture, type TortureSettings, torture, tortureSettings } from "./kills.ts";
import { writeBase } from "./layer-content.ts";
import { Random } from "./random.ts";
import { baseName, type ClientOptions, SnapshotClient } from "./snapshot-client.ts";

const clientCount = 5;

/** Some ten calls of each client. */
const maxWorkMs = 200;

/** One kill in so many is followed by a look at what it has left, with the program's own `--check`. */
const killsPerCheck = 5;

interface Scene extends SnapshotterSettings {
  /** An empty directory to mount in. */
  readonly workDir: string;
  readonly dies: ClientOptions["dies"];
}

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

/** Has clients use a snapshotter that dies again and again, and then empties it: nothing may be left. */
async function run(
  scene: Scene,
  settings: TortureSettings,
  machine: Pick<Torture, "strike" | "examine"> = {},
): Promise<void> {
  const { root, address, workDir, dies } = scene;
  const random = new Random(settings.seed);
  const clients = Array.from(
    { length: clientCount },
    (_, index) => new SnapshotClient({ name: `client-${index}`, workDir, random: random.fork(), dies }),
  );
  const all = (action: (client: SnapshotClient) => Promise<void>) => Promise.all(clients.map(action));
  const program = snapshotterProgram(scene);
  {
    await using _first = await startProcess(program);
    await connected(address, (snapshotter) => commitBase(snapshotter, workDir));
  }
  const running = await torture(
    {
      program,
      maxWorkMs,
      strike: machine.strike,
      examine: async (kill) => {
        await machine.examine?.(kill);
        if (kill % killsPerCheck === 1) {
          // Fails with what is wrong, if anything is that the next start would not put in order.
          await promisify(execFile)(program.program, ["--root", root, "--check"]);
        }
      },
      work: (killed) =>
        connected(address, async (snapshotter) => {
          await all((client) => client.work(snapshotter, killed));
        }),
      check: () =>
        connected(address, async (snapshotter) => {
          // The first call after a crash has to succeed.
          await snapshotter.prepare("first call", baseName, {});
          await snapshotter.remove("first call");
          await all(async (client) => client.check(snapshotter, await Array.fromAsync(snapshotter.walk([]))));
          await snapshotter.cleanup();
          await assertNoOrphans(root, await Array.fromAsync(snapshotter.walk([])));
        }),
    },
    settings,
  );
  await connected(address, async (snapshotter) => {
    await all((client) => client.removeAll(snapshotter));
    await snapshotter.remove(baseName);
    await snapshotter.cleanup();
    assert.deepEqual(await Array.fromAsync(snapshotter.walk([])), []);
  });
  assert.deepEqual(await readdir(join(root, "snapshots")), []);
  assert.equal(await running.stop(), 0);
  assertIntegrity(root);
  assert.deepEqual(await mountPointsBeneath(workDir), []);
}

/** Makes a place for a scene, which is unmounted and removed after `use`, whatever comes of that. */
async function withPlace(
  use: (place: { directory: string; workDir: string }) => Promise<void>,
): Promise<void> {
  await using temporary = await mkdtempDisposable(join(tmpdir(), "torture-"));
  const directory = temporary.path;
  await using mounts = new AsyncDisposableStack();
  mounts.defer(async () => void (await unmountBeneath(directory)));
  const workDir = join(directory, "work");
  await mkdir(workDir);
  await use({ directory, workDir });
}

const address = (directory: string) => join(directory, "s.sock");

describe("oci-snapshotter has all that it has acknowledged, and nothing half,", () => {
  for (const backend of ["overlayfs", "native"] as const) {
    test(`on ${backend}, killed at any moment`, (t) =>
      withPlace(async ({ directory, workDir }) => {
        const settings = tortureSettings(process.env);
        t.diagnostic(`TORTURE_SEED=${settings.seed} TORTURE_KILLS=${settings.kills}`);
        const root = join(directory, "root");
        await run({ root, address: address(directory), backend, workDir, dies: "by kill" }, settings);
      }));

    test(`on ${backend} with --sync-on-commit, the power going at any moment`, (t) =>
      withPlace(async ({ directory, workDir }) => {
        const settings = tortureSettings(process.env);
        t.diagnostic(`TORTURE_SEED=${settings.seed} TORTURE_KILLS=${settings.kills}`);
        await using disk = await createDisk(directory);
        await run(
          {
            root: join(disk.path, "root"),
            address: address(directory),
            backend,
            flags: ["--sync-on-commit"],
            workDir,
            dies: "by power cut",
          },
          settings,
          { strike: disk.cutPower, examine: disk.remount },
        );
      }));
  }
});
