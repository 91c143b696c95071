import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  type BuildHistoryEvent,
  BuildHistoryEventType,
  Control,
  type StatusResponse,
  StatusResponseSchema,
} from "@oci-worker/api/buildkit/control";
import { Content } from "@oci-worker/api/containerd/content";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, run, type Tree } from "@oci-worker/llb/build";
import { makeGate } from "./peers/gate.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions } from "./peers/worker.ts";

const { STARTED, COMPLETE, DELETED } = BuildHistoryEventType;

/** A worker, and a registry with a small image in it. */
async function fixture(options: WorkerOptions = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const base = image(await pushTo(registry, await createImage()));
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "worker-"))).path;
  const worker = undo.use(await startWorker({ ...options, directory }));
  const channel = undo.use(unixChannel(worker.address));
  const owned = undo.move();
  return {
    base,
    directory,
    worker,
    control: createClient(Control, channel),
    content: createClient(Content, channel),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function step(root: Tree, script: string): Tree {
  return run({ root, args: ["sh", "-c", script], env: ["PATH=/bin"] }).root;
}

function build(control: Client<typeof Control>, Ref: string, tree: Tree, more: object = {}) {
  return control.solve({ Ref, Definition: definitionOf(tree), ...more });
}

/** What the worker tells of builds that it knows already. */
async function known(control: Client<typeof Control>, more: object = {}): Promise<BuildHistoryEvent[]> {
  return await Array.fromAsync(control.listenBuildHistory({ EarlyExit: true, ...more }));
}

async function refs(control: Client<typeof Control>, more: object = {}): Promise<(string | undefined)[]> {
  return (await known(control, more)).map(({ record }) => record?.Ref);
}

/** Output of steps and names of vertices that a build shows. */
async function progressOf(status: AsyncIterable<StatusResponse>) {
  let output = "";
  const names = new Set<string>();
  for await (const { logs, vertexes } of status) {
    output += logs.map(({ msg }) => Buffer.from(msg).toString()).join("");
    for (const { name } of vertexes) {
      names.add(name);
    }
  }
  return { output, names: [...names].sort() };
}

describe("a worker remembers a build that has ended", () => {
  test("with what was asked for, how it ended, its steps and its output, also after a restart", async () => {
    await using on = await fixture();
    const { control } = on;
    const attrs = { FrontendAttrs: { "vcs:source": "https://host.example/repo" } };
    await build(control, "first", step(on.base, "echo built; echo x > /x"), attrs);
    await build(control, "again", step(on.base, "echo built; echo x > /x"));
    await assert.rejects(build(control, "failing", step(on.base, "echo why; exit 3")));
    await build(control, "hidden", step(on.base, "true"), { Internal: true });
    const before = await known(control);
    assert.deepEqual(
      before.map(({ type, record }) => [type, record?.Ref]),
      [
        [COMPLETE, "first"],
        [COMPLETE, "again"],
        [COMPLETE, "failing"],
      ],
    );
    const [first, again, failing] = before.map(({ record }) => record);
    assert.deepEqual(first?.FrontendAttrs, attrs.FrontendAttrs);
    assert.equal(first?.error, undefined);
    const counts = [first, again, failing].map((record) => [
      record?.numTotalSteps,
      record?.numCachedSteps,
      record?.numCompletedSteps,
    ]);
    assert.deepEqual(counts, [
      [2, 0, 2],
      [2, 2, 2],
      [2, 1, 2],
    ]);
    assert.match(failing?.error?.message ?? "", /did not complete successfully: exit code: 3/);
    assert.equal(failing?.error?.code, Code.Unknown);
    assert((first?.CompletedAt?.seconds ?? 0n) >= (first?.CreatedAt?.seconds ?? 1n));
    const shown = await progressOf(control.status({ Ref: "failing" }));
    assert.equal(shown.output, "why\n");
    assert.equal(shown.names.length, 2);

    await on.worker.process.stop();
    await using worker = await startWorker({ directory: on.directory });
    using channel = unixChannel(worker.address);
    const restarted = createClient(Control, channel);
    assert.deepEqual(await known(restarted), before);
    assert.deepEqual(await progressOf(restarted.status({ Ref: "failing" })), shown);
    assert.equal((await progressOf(restarted.status({ Ref: "again" }))).output, "");
    const content = createClient(Content, channel);
    const pieces = [];
    for await (const { data } of content.read({ digest: failing?.logs?.digest ?? "" })) {
      pieces.push(data);
    }
    const blob = Buffer.concat(pieces);
    assert.equal(blob.length, Number(failing?.logs?.size));
    assert.equal(failing?.logs?.mediaType, "application/vnd.buildkit.status.v0");
    const message = fromBinary(StatusResponseSchema, blob.subarray(4, 4 + blob.readUInt32LE()));
    assert(message.vertexes.length > 0);
  });

  test("and tells of others as they begin and end, of one that was asked for by its name alone", async () => {
    await using on = await fixture();
    const { control } = on;
    await build(control, "earlier", step(on.base, "true"));
    const [ending, leaving] = [new AbortController(), new AbortController()];
    const all = control.listenBuildHistory({}, { signal: ending.signal })[Symbol.asyncIterator]();
    const one = control
      .listenBuildHistory({ Ref: "later" }, { signal: leaving.signal })
      [Symbol.asyncIterator]();
    const next = async (events: typeof all) => {
      const { value } = await events.next();
      return [value?.type, value?.record?.Ref];
    };
    assert.deepEqual(await next(all), [COMPLETE, "earlier"]);
    await using gate = await makeGate();
    const building = build(control, "later", step(on.base, gate.command));
    assert.deepEqual(await next(one), [STARTED, "later"]);
    assert.deepEqual(await next(all), [STARTED, "later"]);
    assert.deepEqual(await refs(control, { ActiveOnly: true }), ["later"]);
    assert.deepEqual(await refs(control, { Filter: ["status==running"] }), ["later"]);
    gate.open();
    await building;
    assert.deepEqual(await next(one), [COMPLETE, "later"]);
    assert.deepEqual(await next(all), [COMPLETE, "later"]);
    assert.deepEqual(await refs(control, { ActiveOnly: true }), []);
    assert.deepEqual(await refs(control, { Limit: 1 }), ["later"]);
    assert.deepEqual(await refs(control, { Filter: ["ref==earlier", "duration>=1h"] }), ["earlier"]);
    assert.deepEqual(await refs(control, { Filter: ["status==completed,startedAt>1h,duration<1h"] }), [
      "earlier",
      "later",
    ]);
    await assert.rejects(known(control, { Filter: ["startedAt>soon"] }), /invalid time "soon"/);

    // One that somebody listens to goes when he has left.
    await control.updateBuildHistory({ Ref: "later", Delete: true });
    assert.deepEqual(await refs(control), ["earlier"]);
    await assert.rejects(known(control, { Ref: "later" }), { code: Code.NotFound });
    leaving.abort();
    assert.deepEqual(await next(all), [DELETED, "later"]);
    ending.abort();
  });

  test("until it is deleted, with its blobs", async () => {
    await using on = await fixture();
    const { control, worker } = on;
    await build(control, "one", step(on.base, "echo one"));
    const blobs = join(worker.root, "content/blobs/sha256");
    const [event] = await known(control);
    const digest = event?.record?.logs?.digest.replace("sha256:", "") ?? "";
    assert((await readdir(blobs)).includes(digest));
    await Array.fromAsync(worker.client.prune());
    assert.deepEqual(await readdir(blobs), [digest], "a prune takes no logs");
    await control.updateBuildHistory({ Ref: "one", Finalize: true });
    await control.updateBuildHistory({ Ref: "one", Pinned: true });
    const [pinned] = await known(control);
    assert.deepEqual([pinned?.record?.pinned, pinned?.record?.Generation], [true, 2]);
    await control.updateBuildHistory({ Ref: "one", Delete: true });
    assert.deepEqual(await known(control), []);
    assert.deepEqual(await readdir(blobs), []);
    for (const Ref of ["one", "never", ""]) {
      await assert.rejects(control.updateBuildHistory({ Ref, Delete: true }), (error) => {
        assert(error instanceof ConnectError);
        assert.equal(error.code, Ref === "" ? Code.InvalidArgument : Code.NotFound);
        return true;
      });
    }
    await assert.rejects(async () => await progressOf(control.status({ Ref: "never" })), /no such job never/);
  });

  test("forgets builds that are both too old and too many, but none that is pinned", async () => {
    await using on = await fixture({ config: "[history]\nmaxAge = 0\nmaxEntries = 3\n" });
    const { control } = on;
    for (const ref of ["pinned", "a", "b", "c", "d"]) {
      await build(control, ref, step(on.base, "true"));
    }
    await control.updateBuildHistory({ Ref: "pinned", Pinned: true });
    await on.worker.process.stop();
    const restartedRefs = async (config: string) => {
      await using worker = await startWorker({ directory: on.directory, config });
      using channel = unixChannel(worker.address);
      return await refs(createClient(Control, channel));
    };
    assert.deepEqual(await restartedRefs("[history]\nmaxAge = '1h'\nmaxEntries = 0\n"), [
      "pinned",
      "a",
      "b",
      "c",
      "d",
    ]);
    assert.deepEqual(await restartedRefs("[history]\nmaxAge = 0\nmaxEntries = 3\n"), [
      "pinned",
      "b",
      "c",
      "d",
    ]);
    assert.deepEqual(await restartedRefs("[history]\nmaxAge = 0\nmaxEntries = 0\n"), ["pinned"]);
  });
});
