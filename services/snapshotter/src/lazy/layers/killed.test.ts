import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { join } from "node:path";
import { describe, test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import { planLayer } from "../plan/layer-plan.ts";
import { sampleData, sampleLayer } from "../sample-layer.ts";
import { sampleRegistry } from "../sample-registry.ts";
import { labelsOf, onDemand, readElsewhere, sampleLazy } from "./sample-lazy.ts";
import type { SampleProgramOptions } from "./sample-program.ts";

const program = join(import.meta.dirname, "sample-program.ts");

async function start(fd: number, options: SampleProgramOptions): Promise<ChildProcess> {
  const child = spawn(process.execPath, [program, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit", fd],
  });
  assert(child.stdout);
  await once(child.stdout, "data");
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

describe("a process with lazy layers that is killed", () => {
  test("leaves reads to the next one, which gives them right, without asking again for what is there", async () => {
    // Nothing that gets smaller: what is read with the table of contents is not fetched again.
    const content = randomBytes(1_200_000);
    const layer = await sampleLayer([{ type: "file", name: "big", content }], { chunkBytes: 60_000 });
    const data = sampleData(planLayer(layer.tree, { xattrNamespace: "trusted" }), layer);
    await using registry = await sampleRegistry({ [digestOf(layer.blob)]: layer.blob });
    // Nothing is answered as long as those who ask are killed.
    const requested = new EventEmitter();
    let isMute = false;
    registry.misbehave = () => isMute && requested.emit("held");
    await using lazy = await sampleLazy([registry]);
    const { number } = await lazy.layers.open(labelsOf(layer), new AbortController().signal);
    await lazy.stop();
    await using undo = new AsyncDisposableStack();
    const { root, resolverAddress, fuseFd, mountPoint: target } = lazy;
    const options = { root, settings: onDemand, resolverAddress, target, isAdopted: true };
    let child = await start(fuseFd, options);
    undo.defer(() => kill(child));
    isMute = true;
    let held = once(requested, "held");
    const reading = readElsewhere(join(target, String(number)));
    for (let kills = 0; kills < 4; kills += 1) {
      await held;
      await kill(child);
      held = once(requested, "held");
      isMute = kills < 3;
      child = await start(fuseFd, options);
    }
    assert.ok((await reading).equals(data));
    await kill(child);
    registry.requests.length = 0;
    child = await start(fuseFd, options);
    assert.ok(
      (await readElsewhere(join(target, String(number)), { offset: 0, sizeBytes: data.length })).equals(data),
    );
    assert.deepEqual(registry.requests, []);
  });
});
