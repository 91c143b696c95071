import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { create, fromBinary, toJson } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  type BuildHistoryEvent,
  BuildHistoryEventType,
  Control,
  type Descriptor,
  type StatusResponse,
  StatusResponseSchema,
  VertexWarningSchema,
} from "@oci-worker/api/buildkit/control";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { Content } from "@oci-worker/api/containerd/content";
import { StatusSchema } from "@oci-worker/api/google/status";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, run, type Tree } from "@oci-worker/llb/build";
import { makeGate } from "./peers/gate.ts";
import { historyBlobs } from "./peers/history-blobs.ts";
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
    channel,
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

/** Has everything written of builds that have ended: their traces are waited for otherwise. */
async function finalize(control: Client<typeof Control>, ...refs: readonly string[]): Promise<void> {
  for (const Ref of refs) {
    await control.updateBuildHistory({ Ref, Finalize: true });
  }
}

async function blobOf(content: Client<typeof Content>, blob: Descriptor | undefined): Promise<Buffer> {
  const pieces = [];
  for await (const { data } of content.read({ digest: blob?.digest ?? "" })) {
    pieces.push(data);
  }
  const bytes = Buffer.concat(pieces);
  assert.equal(bytes.length, Number(blob?.size));
  return bytes;
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
    await finalize(control, "first", "again", "failing");
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
    const blob = await blobOf(content, failing?.logs);
    assert.equal(failing?.logs?.mediaType, "application/vnd.buildkit.status.v0");
    const message = fromBinary(StatusResponseSchema, blob.subarray(4, 4 + blob.readUInt32LE()));
    assert(message.vertexes.length > 0);
  });

  test("and tells of others as they begin and end, of one that was asked for by its name alone", async () => {
    await using on = await fixture();
    const { control } = on;
    await build(control, "earlier", step(on.base, "true"));
    await finalize(control, "earlier");
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
    await finalize(control, "later");
    assert.deepEqual(await next(all), [COMPLETE, "later"], "with its trace");
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

  test("with all that its client was told of its failure", async () => {
    await using on = await fixture();
    const { control, content } = on;
    const tree = step(on.base, "exit 7");
    const failure = await build(control, "failing", tree).then(
      () => assert.fail("it has ended well"),
      (error: unknown) => ConnectError.from(error),
    );
    await build(control, "fine", step(on.base, "true"));
    const [failing, fine] = (await known(control)).map(({ record }) => record);
    assert.equal(failing?.externalError?.mediaType, "application/vnd.googeapis.google.rpc.status+proto");
    const status = fromBinary(StatusSchema, await blobOf(content, failing?.externalError));
    assert.deepEqual([status.code, status.message], [failure.code, failure.rawMessage]);
    assert.deepEqual(
      status.details.map(({ typeUrl, value }) => [typeUrl, JSON.parse(Buffer.from(value).toString())]),
      [
        ["github.com/moby/buildkit/errdefs.Vertex+json", { digest: tree.source?.vertex.digest }],
        ["github.com/moby/buildkit/gatewayapi.ExitMessage+json", { Code: 7 }],
      ],
    );
    assert.deepEqual([failing?.error?.code, failing?.error?.message], [status.code, status.message]);
    assert.equal(failing?.error?.details.length, 0, "only the blob has them");
    assert.equal(fine?.externalError, undefined);
  });

  test("with the warnings that its frontend gave, which were shown while it ran", async () => {
    await using on = await fixture();
    const { control } = on;
    const bridge = createClient(LLBBridge, on.channel);
    const solving = control.solve({ Ref: "driven" });
    const headers = { "buildkit-controlapi-buildid": "driven" };
    const digest = step(on.base, "true").source?.vertex.digest ?? "";
    const warning = {
      level: 1n,
      short: Buffer.from("old syntax"),
      detail: [Buffer.from("use the new one")],
      url: "https://docs.example/syntax",
      info: { filename: "Dockerfile", data: Buffer.from("FROM x") },
      ranges: [{ start: { line: 1 }, end: { line: 2 } }],
    };
    const { FrontendAPICaps } = await bridge.ping({}, { headers });
    assert(FrontendAPICaps.some(({ ID, Enabled }) => ID === "gateway.warnings" && Enabled));
    await bridge.warn({ ...warning, digest }, { headers });
    await bridge.warn({ digest, short: Buffer.from("another") }, { headers });
    for (const [wrong, message] of [
      [{ digest: "x" }, /"x" as a digest/],
      [{ digest, short: new Uint8Array(1024 * 1024 + 1) }, /want at most 1048576/],
    ] as const) {
      await assert.rejects(bridge.warn(wrong, { headers }), message);
    }
    await bridge.return({}, { headers });
    await solving;
    const shown = (await Array.fromAsync(control.status({ Ref: "driven" }))).flatMap(
      ({ warnings }) => warnings,
    );
    const [first, second, ...others] = shown.map((each) => toJson(VertexWarningSchema, each));
    assert.deepEqual(
      first,
      toJson(VertexWarningSchema, create(VertexWarningSchema, { ...warning, vertex: digest })),
    );
    assert.deepEqual(second, { vertex: digest, short: Buffer.from("another").toString("base64") });
    assert.deepEqual(others, []);
    const [event] = await known(control);
    assert.equal(event?.record?.numWarnings, 2);
  });

  test("until it is deleted, with its blobs", async () => {
    await using on = await fixture();
    const { control, worker } = on;
    await build(control, "one", step(on.base, "echo one"));
    const blobs = join(worker.root, "content/blobs/sha256");
    await assert.rejects(build(control, "two", step(on.base, "exit 1")));
    const remembered = (await historyBlobs(control)).map((digest) => digest.replace("sha256:", ""));
    await Array.fromAsync(worker.client.prune());
    assert.deepEqual((await readdir(blobs)).sort(), remembered, "a prune takes nothing of builds");
    await control.updateBuildHistory({ Ref: "two", Delete: true });
    const [written] = await known(control);
    await control.updateBuildHistory({ Ref: "one", Pinned: true });
    const [pinned] = await known(control);
    const generation = (written?.record?.Generation ?? 0) + 1;
    assert.deepEqual([pinned?.record?.pinned, pinned?.record?.Generation], [true, generation]);
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
