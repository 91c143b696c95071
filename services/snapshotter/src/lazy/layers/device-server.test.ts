import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { digestOf } from "@oci-worker/oci/digest";
import { planLayer } from "../plan/layer-plan.ts";
import { sampleData, sampleLayer } from "../sample-layer.ts";
import { type SampleRegistry, sampleRegistry, sendPart } from "../sample-registry.ts";
import type { DeathRule } from "./deaths.ts";
import { type DeviceThreads, deviceThreads } from "./device-server.ts";
import { labelsOf, type SampleLazy, sampleLazy } from "./sample-lazy.ts";

/** More than what is read with the table of contents, which does not get smaller. */
const layer = await sampleLayer([{ type: "file", name: "big", content: randomBytes(700_000) }]);
const data = sampleData(planLayer(layer.tree, { xattrNamespace: "trusted" }), layer);
const patient = new AbortController().signal;

/** What has been started to serve, and what is started next. */
class Threads implements DeviceThreads {
  readonly deathRule: DeathRule;
  /** Whatever is started to serve dies at once. */
  areBroken = false;
  readonly #started: Worker[] = [];
  #news = Promise.withResolvers<void>();

  constructor(deathRule: DeathRule) {
    this.deathRule = deathRule;
  }

  readonly start = (data: Parameters<DeviceThreads["start"]>[0]): Worker => {
    const isBroken = this.areBroken && data.refuseUntilMs === undefined;
    const thread = isBroken
      ? new Worker("throw new Error('it is broken')", { eval: true })
      : deviceThreads.start(data);
    this.#started.push(thread);
    this.#news.resolve();
    this.#news = Promise.withResolvers();
    return thread;
  };

  async untilStarted(count: number): Promise<void> {
    while (this.#started.length < count) {
      await this.#news.promise;
    }
  }

  /** Ends the last one, in the middle of what it does, when the kernel asks it for something. */
  async end({ mountPoint }: SampleLazy): Promise<void> {
    const ended = this.#started.at(-1)?.terminate();
    // It may be this that is not answered before the next one comes.
    const answered = Promise.withResolvers<void>();
    execFile("stat", [join(mountPoint, "no such layer")], () => answered.resolve());
    await ended;
    await answered.promise;
  }
}

async function registryWithLayer(): Promise<SampleRegistry> {
  return await sampleRegistry({ [digestOf(layer.blob)]: layer.blob });
}

describe("the server of a device", () => {
  test("has another thread answer what one has taken that has died, and what comes after", async () => {
    await using registry = await registryWithLayer();
    const threads = new Threads(deviceThreads.deathRule);
    await using lazy = await sampleLazy([registry], {}, threads);
    const { number } = await lazy.layers.open(labelsOf(layer), patient);
    const asked = Promise.withResolvers<void>();
    const answering = Promise.withResolvers<void>();
    registry.misbehave = (request, response) => {
      asked.resolve();
      answering.promise.then(() => sendPart(request, response, layer.blob));
      return true;
    };
    const reading = lazy.read(number);
    await asked.promise;
    await threads.end(lazy);
    await threads.untilStarted(2);
    answering.resolve();
    assert.ok((await reading).equals(data));
    const [status] = await lazy.layers.status();
    assert.equal(status?.failure, undefined);
    const told = lazy.log.filter((line) => line.includes("another one follows it"));
    assert.equal(told.length, 1, lazy.log.join(""));
    await threads.end(lazy);
    assert.ok((await lazy.read(number, { offset: 0, sizeBytes: data.length })).equals(data));
  });

  test("fails what is asked for where each thread dies, and says why", async () => {
    await using registry = await registryWithLayer();
    const threads = new Threads({ tooMany: 3, windowMs: 3_600_000, refusalMs: 3_600_000 });
    await using lazy = await sampleLazy([registry], {}, threads);
    const { number } = await lazy.layers.open(labelsOf(layer), patient);
    threads.areBroken = true;
    await assert.rejects(Promise.all([threads.end(lazy), lazy.read(number)]), /Input\/output error/);
    const [status] = await lazy.layers.status();
    assert.match(status?.failure?.message ?? "", /^Cannot serve .*: each thread .* dies: it is broken$/);
    const told = (text: string) => lazy.log.filter((line) => line.includes(text)).length;
    assert.deepEqual(
      [told("another one follows it"), told("die again and again")],
      [2, 1],
      lazy.log.join(""),
    );
  });

  test("tries again after it has failed for a while", async () => {
    await using registry = await registryWithLayer();
    const threads = new Threads({ tooMany: 3, windowMs: 3_600_000, refusalMs: 0 });
    await using lazy = await sampleLazy([registry], {}, threads);
    const { number } = await lazy.layers.open(labelsOf(layer), patient);
    threads.areBroken = true;
    const ending = threads.end(lazy);
    // Two that are broken, and one that has nothing to refuse any more.
    await threads.untilStarted(4);
    threads.areBroken = false;
    await ending;
    assert.ok((await lazy.read(number)).equals(data));
    const [status] = await lazy.layers.status();
    assert.equal(status?.failure, undefined);
  });

  test("says so when somebody cuts the connection of its file system", async () => {
    await using registry = await registryWithLayer();
    await using lazy = await sampleLazy([registry]);
    await lazy.layers.open(labelsOf(layer), patient);
    const [, minor = ""] = mountedAt(await readMountInfo(), lazy.mountPoint)?.device.split(":") ?? [];
    await using control = await mountTemporarily(
      [{ type: "fusectl", source: "fusectl", options: [] }],
      tmpdir(),
    );
    await writeFile(join(control.path, minor, "abort"), "1");
    await lazy.logged("cannot be served any more");
    const [status] = await lazy.layers.status();
    assert.match(status?.failure?.message ?? "", /^Cannot serve .* until a restart: .* from outside$/);
  });
});
