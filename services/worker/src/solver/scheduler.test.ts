import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import { definitionOf, image, run, type Tree } from "@oci-worker/llb/build";
import { type Graph, loadDefinition, type Vertex } from "@oci-worker/llb/definition";
import { digestOf } from "@oci-worker/oci/digest";
import { parseReference } from "@oci-worker/oci/reference";
import { openCacheDatabase } from "../cache/database.ts";
import { RecordTable } from "../cache/record-table.ts";
import { CacheRecords } from "../cache/records.ts";
import { VertexError } from "./failure.ts";
import { Job } from "./job.ts";
import type { Operation, OperationContext } from "./operation.ts";
import type { VertexState } from "./progress.ts";
import { ResultCache } from "./result-cache.ts";
import { Scheduler } from "./scheduler.ts";

/** What a vertex of a test does; a name without an entry succeeds at once. */
type Behaviour = (context: OperationContext) => Promise<void> | void;

/** A scheduler whose operations only note that they have run, on a real cache. */
async function fixture(behaviours: Readonly<Record<string, Behaviour>> = {}) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "scheduler-")));
  const snapshots = new Set<string>();
  const stat = (name: string) => {
    if (!snapshots.has(name)) {
      return Promise.reject(new NotFoundError(`${name}: not found`));
    }
    const times = { createdAtNs: 0n, updatedAtNs: 0n };
    return Promise.resolve({ name, parent: undefined, kind: "committed", labels: {}, ...times } as const);
  };
  const database = openCacheDatabase(join(directory.path, "cache.db"));
  undo.defer(() => database.close());
  const records = undo.use(
    new CacheRecords(new RecordTable(database), (error) => assert.fail(String(error))),
  );
  const cache = new ResultCache(database, records, { stat });
  const executed: string[] = [];
  const operationOf = ({ name, variant = "" }: Vertex): Operation => ({
    cacheKey: (inputKeys) => Promise.resolve(digestOf(JSON.stringify([name, variant, inputKeys]))),
    async execute(_inputs, context) {
      executed.push(name);
      await behaviours[name]?.(context);
      const snapshot = `of ${name}${variant}`;
      snapshots.add(snapshot);
      const record = { type: "regular", description: name, parents: [], mutable: false, blobs: [] } as const;
      records.add({ ...record, id: snapshot }, context.lease);
      return [{ snapshot }];
    },
  });
  const scheduler = new Scheduler(operationOf, cache);
  const owned = undo.move();
  return { scheduler, records, snapshots, executed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const base = image(parseReference("base"), { name: "base" });

function step(name: string, root: Tree = base, more: { readonly ignoreCache?: boolean } = {}): Tree {
  return run({ root, args: [name], name, ...more }).root;
}

function graphOf(tree: Tree): Graph {
  return loadDefinition(definitionOf(tree));
}

let jobs = 0;

function newJob(): Job {
  jobs += 1;
  return new Job(`job-${jobs}`, [`session-${jobs}`]);
}

/** Solves `tree` for a job of its own, which then leaves. */
async function solve(scheduler: Scheduler, tree: Tree, job = newJob()) {
  try {
    return await scheduler.evaluate(scheduler.load(graphOf(tree), job), job);
  } finally {
    await scheduler.leave(job);
    job[Symbol.dispose]();
  }
}

/** The last state of every vertex that a job was told of, by name. */
async function statesOf(job: Job): Promise<Map<string, VertexState>> {
  const states = new Map<string, VertexState>();
  for await (const events of job.progress.follow(new AbortController().signal)) {
    for (const event of events) {
      if (event.kind === "vertex") {
        states.set(event.vertex.name, event.vertex);
      }
    }
  }
  return states;
}

describe("a scheduler", () => {
  test("shares no work among builds that were granted different things", async () => {
    const release = Promise.withResolvers<void>();
    await using on = await fixture({ base: () => release.promise });
    const withDevice = (device: string): Graph => {
      const graph = graphOf(step("last", step("first")));
      const granted = graph.vertices.map((vertex) =>
        vertex.name === "base" ? vertex : { ...vertex, variant: device },
      );
      return { ...graph, vertices: granted };
    };
    const all = ["a", "b", "a"].map((device) => ({ graph: withDevice(device), job: newJob() }));
    const results = all.map(({ graph, job }) => on.scheduler.evaluate(on.scheduler.load(graph, job), job));
    release.resolve();
    await Promise.all(results);
    for (const { job } of all) {
      await on.scheduler.leave(job);
      job[Symbol.dispose]();
    }
    assert.deepEqual(on.executed.toSorted(), ["base", "first", "first", "last", "last"]);
  });

  test("makes inputs first, each once however many need it", async () => {
    await using on = await fixture();
    const left = step("left");
    const both = run({
      root: left,
      args: ["both"],
      name: "both",
      mounts: [{ type: "bind", dest: "/r", from: step("right") }],
    });
    assert.deepEqual(await solve(on.scheduler, both.root), { snapshot: "of both" });
    assert.deepEqual(on.executed.toSorted(), ["base", "both", "left", "right"]);
    assert.equal(on.executed[0], "base");
    assert.equal(on.executed.at(-1), "both");
  });

  test("takes a result from the cache, and then makes nothing beneath it", async () => {
    await using on = await fixture();
    await solve(on.scheduler, step("a"));
    const job = newJob();
    assert.deepEqual(await solve(on.scheduler, step("a"), job), { snapshot: "of a" });
    assert.deepEqual(on.executed, ["base", "a"]);
    const states = await statesOf(job);
    assert.equal(states.get("a")?.cached, true);
    assert.equal(states.get("base")?.cached, true);
  });

  test("makes a result again whose snapshot has gone", async () => {
    await using on = await fixture();
    await solve(on.scheduler, step("a"));
    on.snapshots.delete("of a");
    await solve(on.scheduler, step("a"));
    assert.deepEqual(on.executed, ["base", "a", "a"]);
  });

  test("does not look into the cache where it was told not to", async () => {
    await using on = await fixture();
    await solve(on.scheduler, step("a", base, { ignoreCache: true }));
    await solve(on.scheduler, step("a", base, { ignoreCache: true }));
    assert.deepEqual(on.executed, ["base", "a", "a"]);
  });

  test("shares a vertex between builds, and tells both of it", async () => {
    const go = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<OperationContext>();
    await using on = await fixture({
      a: async (context) => {
        context.report.log(1, Buffer.from("early"));
        begun.resolve(context);
        await go.promise;
      },
    });
    const [first, second] = [newJob(), newJob()];
    const one = solve(on.scheduler, step("a"), first);
    const context = await begun.promise;
    const two = solve(on.scheduler, step("a"), second);
    assert.deepEqual(context.sessionIDs().toSorted(), [...first.sessionIDs, ...second.sessionIDs].toSorted());
    go.resolve();
    await Promise.all([one, two]);
    assert.deepEqual(on.executed, ["base", "a"]);
    for (const job of [first, second]) {
      const logs: string[] = [];
      for await (const events of job.progress.follow(new AbortController().signal)) {
        logs.push(
          ...events.flatMap((event) =>
            event.kind === "log" ? [Buffer.from(event.log.data).toString()] : [],
          ),
        );
      }
      assert.deepEqual(logs, ["early"]);
    }
  });

  test("goes on for one build when another that wants the same is canceled", async () => {
    const go = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    await using on = await fixture({
      a: async ({ signal }) => {
        begun.resolve();
        await go.promise;
        signal.throwIfAborted();
      },
    });
    const [canceled, kept] = [newJob(), newJob()];
    const one = assert.rejects(solve(on.scheduler, step("a"), canceled), /changed my mind/);
    await begun.promise;
    const two = solve(on.scheduler, step("a"), kept);
    canceled.cancel(new Error("changed my mind"));
    await one;
    go.resolve();
    assert.deepEqual(await two, { snapshot: "of a" });
  });

  test("gives work up when the last build that wants it is canceled, and waits until it has ended", async () => {
    const begun = Promise.withResolvers<void>();
    let cleanedUp = false;
    await using on = await fixture({
      a: async ({ signal }) => {
        const aborted = Promise.withResolvers<void>();
        signal.addEventListener("abort", () => aborted.resolve());
        begun.resolve();
        await aborted.promise;
        await new Promise((resolve) => setImmediate(resolve));
        cleanedUp = true;
        throw signal.reason;
      },
    });
    const job = newJob();
    const solving = assert.rejects(solve(on.scheduler, step("a"), job));
    await begun.promise;
    job.cancel(new Error("enough"));
    await solving;
    assert(cleanedUp, "the build ended before its work had");
    assert.equal((await statesOf(job)).get("a")?.error, "context canceled");
    assert(!on.snapshots.has("of a"));
  });

  test("names the vertex that fails, and tries it again for the next build", async () => {
    let failures = 1;
    await using on = await fixture({
      a: () => {
        if (failures > 0) {
          failures -= 1;
          throw new UnavailableError("the disk is on fire");
        }
      },
    });
    const job = newJob();
    const tree = step("b", step("a"));
    const { vertices } = graphOf(tree);
    await assert.rejects(solve(on.scheduler, tree, job), (error) => {
      assert(error instanceof VertexError);
      assert.equal(error.vertex, vertices.find(({ name }) => name === "a")?.digest);
      assert.equal(error.message, "the disk is on fire");
      assert.equal(error.reason, "UNAVAILABLE");
      return true;
    });
    const states = await statesOf(job);
    assert.equal(states.get("a")?.error, "the disk is on fire");
    assert.equal(states.get("b")?.startedAt, undefined);
    assert.deepEqual(await solve(on.scheduler, tree), { snapshot: "of b" });
  });

  test("lets a build try again what has failed in it, while another one still stands there", async () => {
    let failures = 1;
    await using on = await fixture({
      a: () => {
        if (failures > 0) {
          failures -= 1;
          throw new UnavailableError("not yet");
        }
      },
    });
    const job = newJob();
    const tree = step("b", step("a"));
    await assert.rejects(on.scheduler.evaluate(on.scheduler.load(graphOf(tree), job), job), /not yet/);
    assert.deepEqual(await on.scheduler.evaluate(on.scheduler.load(graphOf(tree), job), job), {
      snapshot: "of b",
    });
    await on.scheduler.leave(job);
  });

  test("hides the insides of an unexpected failure", async () => {
    await using on = await fixture({
      a: () => {
        throw new TypeError("cannot read property of undefined");
      },
    });
    await assert.rejects(solve(on.scheduler, step("a")), (error) => {
      assert(error instanceof VertexError);
      assert.equal(error.message, "internal error");
      assert(error.cause instanceof TypeError);
      return true;
    });
  });
});
