import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { describe, test } from "node:test";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { type LazyContainerd, withLazyContainerd } from "../peers/lazy-images.ts";
import { startReader } from "../peers/tree-reader.ts";
import { tortureSettings } from "./kills.ts";
import { Random } from "./random.ts";

/** Kills on each way to mount layers, where TORTURE_KILLS does not say otherwise. */
const killsBy = { erofs: 50, "erofs-loop": 8, fuse: 8 } as const;

type Mode = keyof typeof killsBy;

/** So many files at least are read anew for each kill, by each reader in an order of its own. */
const filesPerKill = 5;

const readerCount = 4;

/** One kill in so many hits a process that waits for the registry; the others whatever it does by then. */
const killsPerHold = 2;

/** After one kill in so many the next process is killed too, as soon as it has taken over what was mounted. */
const killsPerCrash = 5;

/** Nothing is fetched before somebody reads it. */
const onDemand = { lazy_prefetch: "false", lazy_background_fetch: "false" };

/** Bytes that are others for each `seed`, and do not get smaller. */
function noise(sizeBytes: number, seed: number): Buffer {
  const pieces = Array.from({ length: Math.ceil(sizeBytes / 32) }, (_, index) =>
    createHash("sha256").update(`${seed} ${index}`).digest(),
  );
  return Buffer.concat(pieces, sizeBytes);
}

/** Has the whole of `members` read by four at once while the snapshotter is killed so many times. */
async function readWhileKilled(
  on: LazyContainerd,
  path: string,
  members: readonly TarMember[],
  { kills, seed }: { readonly kills: number; readonly seed: number },
): Promise<void> {
  const { snapshotter, line } = on;
  const random = new Random(seed);
  const progress = new EventEmitter();
  await using undo = new AsyncDisposableStack();
  const readers = Array.from({ length: readerCount }, () => undo.use(startReader(path, progress)));
  const haveRead = () => readers.reduce((sum, { sums, errors }) => sum + sums.length + errors.length, 0);
  const untilRead = async (files: number) => {
    while (haveRead() < files) {
      await once(progress, "read");
    }
  };
  const left = members.map(({ name }) => `${name}`);
  let given = 0;
  const give = (count: number) => {
    const names = left.splice(0, count);
    given += names.length * readerCount;
    for (const reader of readers) {
      reader.read(shuffled(random, names));
    }
  };
  for (let kill = 1; kill <= kills; kill += 1) {
    if (kill % killsPerHold === 0) {
      let isHeld = false;
      const held = line.hold().then(() => {
        isHeld = true;
      });
      while (!isHeld) {
        assert.ok(left.length > 0, "all has been read");
        give(filesPerKill);
        // What is read may have come along with something else.
        await Promise.race([held, untilRead(given)]);
      }
    } else {
      give(filesPerKill);
      await untilRead(given - random.below(filesPerKill));
    }
    await snapshotter.restart("kill", async () => {
      if (kill % killsPerCrash === 0) {
        await snapshotter.crashAt(/"msg":"way to show layers chosen"/);
      }
      line.release();
    });
  }
  give(left.length);
  const expected = members.map(({ name, content }) => `${md5(content as Buffer)}  ${name}`).sort();
  for (const reader of readers) {
    await reader.end();
    assert.deepEqual(reader.errors, []);
    assert.deepEqual([...reader.sums].sort(), expected);
  }
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(random.below(left.length), 1));
}

describe("a snapshotter that is killed again and again", () => {
  for (const mode of Object.keys(killsBy) as Mode[]) {
    test(`loses no read of four readers of a lazy layer by ${mode}`, async (t) => {
      const { TORTURE_KILLS = String(killsBy[mode]) } = process.env;
      const settings = tortureSettings({ ...process.env, TORTURE_KILLS });
      t.diagnostic(`TORTURE_SEED=${settings.seed} TORTURE_KILLS=${settings.kills}`);
      const members = Array.from(
        { length: (settings.kills + 4) * 2 * filesPerKill },
        (_, index): TarMember => {
          return { type: "file", name: `data-${index}`, content: noise(20_000 + 300 * (index % 200), index) };
        },
      );
      await withLazyContainerd({ members, settings: { ...onDemand, lazy_mode: mode } }, async (on) => {
        await on.rpull();
        await on.viewed((path) => readWhileKilled(on, path, members, settings));
      });
    });
  }
});

function md5(content: Buffer): string {
  return createHash("md5").update(content).digest("hex");
}
