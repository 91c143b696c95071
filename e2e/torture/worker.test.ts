import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Client, createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image } from "@oci-worker/llb/build";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import type { Reference } from "@oci-worker/oci/reference";
import { historyBlobs } from "../peers/history-blobs.ts";
import { createImage } from "../peers/image.ts";
import { pushTo } from "../peers/pushed-image.ts";
import { startRegistry } from "../peers/registry.ts";
import {
  assertNothingLeft,
  snapshotsOf,
  type WorkerPlace,
  workerPlace,
  workerProgram,
} from "../peers/worker.ts";
import { BuildClient, ResultKeeper } from "./build-client.ts";
import { torture, tortureSettings } from "./kills.ts";
import { Random } from "./random.ts";

const clientCount = 3;
const imageCount = 4;

/** A build of a pull and a step takes about so long, so a kill within it may meet any part of it. */
const maxWorkMs = 2500;

/** Everything is remembered, and nothing is removed but by clients that ask for it. */
const config = "[worker.oci]\ngc = false\n[history]\nmaxEntries = 1000000\n";

/** Runs `use` with a connection of its own. */
async function connected(
  { address }: WorkerPlace,
  use: (control: Client<typeof Control>) => Promise<void>,
): Promise<void> {
  using channel = unixChannel(address);
  await use(createClient(Control, channel));
}

/** Asserts that every snapshot has its record, and every record its snapshot. */
async function assertRecords(place: WorkerPlace, control: Client<typeof Control>): Promise<void> {
  const { record } = await control.diskUsage({});
  const snapshots = (await snapshotsOf(place)).map(({ name }) => name);
  assert.deepEqual(record.map(({ ID }) => ID).sort(), snapshots.sort());
}

test("oci-worker has all that it has built, and leaves nothing behind, killed at any moment", async (t) => {
  const settings = tortureSettings(process.env);
  t.diagnostic(`TORTURE_SEED=${settings.seed} TORTURE_KILLS=${settings.kills}`);
  await using temporary = await mkdtempDisposable(join(tmpdir(), "torture-"));
  await using mounts = new AsyncDisposableStack();
  mounts.defer(async () => void (await unmountBeneath(temporary.path)));
  await using registry = await startRegistry();
  const images: Reference[] = [];
  for (let index = 0; index < imageCount; index += 1) {
    const files = { [`/data-${index}`]: String(index).repeat(200_000) };
    images.push(await pushTo(registry, await createImage({ files }), `test/image-${index}`));
  }
  const place = workerPlace(temporary.path);
  const program = await workerProgram(place, { config });
  const random = new Random(settings.seed);
  const results = new ResultKeeper();
  const clients = Array.from(
    { length: clientCount },
    (_, index) => new BuildClient({ name: `client-${index}`, images, random: random.fork(), results }),
  );
  await using running = await torture(
    {
      program,
      maxWorkMs,
      work: (killed) =>
        connected(place, async (control) => {
          await Promise.all(clients.map((client) => client.work(control, killed)));
        }),
      check: () =>
        connected(place, async (control) => {
          await assertNothingLeft(place, false);
          await assertRecords(place, control);
          for (const client of clients) {
            await client.check(control);
          }
          await results.check(control);
        }),
    },
    settings,
  );
  await connected(place, async (control) => {
    // What was broken off is taken up again, so that no half of a transfer is left.
    for (const [index, reference] of images.entries()) {
      await control.solve({ Ref: `pull-${index}`, Definition: definitionOf(image(reference)) });
    }
    await Array.fromAsync(control.prune({ all: true }));
    await assertRecords(place, control);
    assert.deepEqual(await snapshotsOf(place), []);
    assert.deepEqual(await readdir(join(place.root, "content/ingest")), []);
    const remembered = await historyBlobs(control);
    const blobs = await readdir(join(place.root, "content/blobs/sha256"));
    assert.deepEqual(blobs.map((hex) => `sha256:${hex}`).sort(), remembered, "blobs but those of builds");
  });
  assert.equal(await running.stop(), 0);
  await assertNothingLeft(place, true);
});
