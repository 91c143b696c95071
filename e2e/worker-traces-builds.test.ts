import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempDisposable, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { type BuildHistoryRecord, Control } from "@oci-worker/api/buildkit/control";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import { Content } from "@oci-worker/api/containerd/content";
import type { SpanSchema } from "@oci-worker/api/opentelemetry/trace";
import { ExportTraceServiceRequestSchema, TraceService } from "@oci-worker/api/opentelemetry/trace-service";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import { assembleImage, createImage, layerOf, programs } from "./peers/image.ts";
import { linkedProgram } from "./peers/linked-program.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions } from "./peers/worker.ts";

/** A span as the trace of a build has it. */
interface Span {
  readonly Name: string;
  readonly SpanContext: { readonly TraceID: string; readonly SpanID: string };
  readonly Parent: { readonly TraceID: string; readonly SpanID: string };
  readonly StartTime: string;
  readonly EndTime: string;
  readonly Attributes:
    | readonly { readonly Key: string; readonly Value: { readonly Value: unknown } }[]
    | null;
  readonly Status: { readonly Code: number; readonly Description: string };
  readonly Resource: Span["Attributes"];
}

/** A client's place in a trace of its own. */
function newPlace() {
  const [traceID, spanID] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  return { traceID, spanID, headers: { traceparent: `00-${traceID}-${spanID}-01` } };
}

/** The spans of one program, as it sends them. */
function requestOf(service: string, traceID: string, spans: readonly MessageInitShape<typeof SpanSchema>[]) {
  const attributes = [
    { key: "service.name", value: { value: { case: "stringValue", value: service } } },
  ] as const;
  const whole = spans.map((span) => ({
    traceId: Buffer.from(traceID, "hex"),
    spanId: randomBytes(8),
    ...span,
  }));
  return create(ExportTraceServiceRequestSchema, {
    resourceSpans: [{ resource: { attributes: [...attributes] }, scopeSpans: [{ spans: whole }] }],
  });
}

/** A worker, and a registry with a small image in it. */
async function fixture(options: WorkerOptions = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const base = image(await pushTo(registry, await createImage()));
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "worker-"))).path;
  const worker = undo.use(await startWorker({ directory, ...options }));
  const channel = undo.use(unixChannel(worker.address));
  const control = createClient(Control, channel);
  const content = createClient(Content, channel);
  const record = async (Ref: string) => {
    const [event] = await Array.fromAsync(control.listenBuildHistory({ EarlyExit: true, Ref }));
    return event?.record;
  };
  const finalized = async (Ref: string): Promise<BuildHistoryRecord | undefined> => {
    await control.updateBuildHistory({ Ref, Finalize: true });
    return await record(Ref);
  };
  /** The spans that are kept with a build. */
  const trace = async (Ref: string): Promise<Span[]> => {
    const blob = (await finalized(Ref))?.trace;
    assert.equal(blob?.mediaType, "application/vnd.buildkit.otlp.json.v0");
    const pieces = [];
    for await (const { data } of content.read({ digest: blob.digest })) {
      pieces.push(data);
    }
    const text = Buffer.concat(pieces).toString();
    assert.equal(Buffer.byteLength(text), Number(blob.size));
    return text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  };
  const output = async (Ref: string) => {
    let text = "";
    for await (const { logs } of control.status({ Ref })) {
      text += logs.map(({ msg }) => Buffer.from(msg).toString()).join("");
    }
    return text;
  };
  const owned = undo.move();
  return {
    base,
    registry,
    worker,
    channel,
    control,
    traces: createClient(TraceService, channel),
    record,
    finalized,
    trace,
    output,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function step(root: Tree, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root, args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root;
}

const named = (spans: readonly Span[], name: string | RegExp) => {
  const found = spans.filter(({ Name }) => (typeof name === "string" ? Name === name : name.test(Name)));
  assert.equal(found.length, 1, `${name} of ${spans.map(({ Name }) => Name).join(", ")}`);
  const [span] = found;
  assert(span !== undefined);
  return span;
};

const attribute = (attributes: Span["Attributes"], name: string) =>
  attributes?.find(({ Key }) => Key === name)?.Value.Value;

const solveName = "moby.buildkit.v1.Control/Solve";

describe("a worker keeps with a build what was done for it", () => {
  test("by the client, before and after the build, and by itself: the build, each vertex, each transfer", async () => {
    await using on = await fixture();
    const { traceID, spanID, headers } = newPlace();
    const client = (name: string) => on.traces.export(requestOf("a client", traceID, [{ name }]));
    assert.equal((await client("earlier")).partialSuccess, undefined);
    const tree = step(on.base, "echo built", { name: "the step" });
    await on.control.solve({ Ref: "one", Definition: definitionOf(tree) }, { headers });
    await client("later");
    const spans = await on.trace("one");
    for (const { SpanContext } of spans) {
      assert.equal(SpanContext.TraceID, traceID);
    }
    assert.equal(new Set(spans.map(({ SpanContext }) => SpanContext.SpanID)).size, spans.length);
    for (const name of ["earlier", "later"]) {
      assert.equal(attribute(named(spans, name).Resource, "service.name"), "a client");
    }
    const solve = named(spans, solveName);
    assert.equal(solve.Parent.SpanID, spanID);
    assert.equal(attribute(solve.Resource, "service.name"), "oci-worker");
    assert.equal(attribute(solve.Attributes, "build.ref"), "one");
    const ran = named(spans, "the step");
    assert.deepEqual(ran.Parent, { ...solve.SpanContext, TraceFlags: "00" });
    assert.equal(attribute(ran.Attributes, "vertex"), tree.source?.vertex.digest);
    assert(solve.StartTime <= ran.StartTime && ran.StartTime <= ran.EndTime && ran.EndTime <= solve.EndTime);
    const pulls = spans.filter(({ Name }) => Name.startsWith("docker-image://"));
    const pullIDs = new Set(pulls.map(({ SpanContext }) => SpanContext.SpanID));
    const transfers = spans.filter(({ Parent }) => pullIDs.has(Parent.SpanID));
    assert(transfers.length > 0, "layers are fetched within a pull");
  });

  test("which it does not ask for when it looks into the cache, and tells if it was there", async () => {
    await using on = await fixture();
    const tree = step(on.base, "env; echo x > /x", { name: "the step" });
    const Definition = definitionOf(tree);
    const places = [newPlace(), newPlace()];
    for (const [index, { headers }] of places.entries()) {
      await on.control.solve({ Ref: `${index}`, Definition }, { headers });
    }
    const first = named(await on.trace("0"), "the step");
    const second = named(await on.trace("1"), "the step");
    assert.deepEqual(
      [first, second].map(({ Attributes }) => attribute(Attributes, "cached")),
      [false, true],
    );
    assert.equal(second.SpanContext.TraceID, places[1]?.traceID);
    assert.equal((await on.record("1"))?.numCachedSteps, 2);
    assert.match(
      await on.output("0"),
      new RegExp(`^TRACEPARENT=00-${places[0]?.traceID}-${first.SpanContext.SpanID}-01$`, "m"),
    );
  });

  test("with what has failed, in a trace of its own if the client has none", async () => {
    await using on = await fixture();
    const tree = step(on.base, "exit 3", { name: "the step" });
    await assert.rejects(on.control.solve({ Ref: "failing", Definition: definitionOf(tree) }));
    const spans = await on.trace("failing");
    const solve = named(spans, solveName);
    assert.match(solve.SpanContext.TraceID, /^(?!0+$)[0-9a-f]{32}$/);
    assert.equal(solve.Parent.SpanID, "0".repeat(16));
    for (const { Status } of [solve, named(spans, "the step")]) {
      assert.equal(Status.Code, 1);
      assert.match(Status.Description, /exit code: 3/);
    }
  });

  test("also when it is stopped before it has waited for the client's last word", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    {
      await using on = await fixture({ directory: directory.path });
      await on.control.solve({ Ref: "one", Definition: definitionOf(step(on.base, "true")) });
      await on.worker.process.stop();
    }
    await using on = await fixture({ directory: directory.path });
    assert((await on.record("one"))?.trace !== undefined);
    named(await on.trace("one"), solveName);
  });

  test("but nothing of what its client does not want to be traced, nor of a build that is nobody's business", async () => {
    await using on = await fixture();
    const { headers } = newPlace();
    const Definition = definitionOf(step(on.base, "env"));
    const traceparent = headers.traceparent.replace(/01$/, "00");
    await on.control.solve({ Ref: "unsampled", Definition }, { headers: { traceparent } });
    const record = await on.finalized("unsampled");
    assert(record !== undefined);
    assert.equal(record.trace, undefined);
    assert.match(await on.output("unsampled"), /^TRACEPARENT=00-[0-9a-f]{32}-[0-9a-f]{16}-00$/m);
    await on.control.solve({ Ref: "internal", Definition, Internal: true }, { headers });
    assert.equal(await on.record("internal"), undefined);
  });

  test("and is not filled by a client that sends spans without end", async () => {
    await using on = await fixture();
    const { traceID, headers } = newPlace();
    // Its client drives it, so it ends when all has been sent.
    const solving = on.control.solve({ Ref: "flooded" }, { headers });
    const bridge = createClient(LLBBridge, on.channel);
    const ofBuild = { headers: { "buildkit-controlapi-buildid": "flooded" } };
    await bridge.solve({ Definition: definitionOf(step(on.base, "true")), Evaluate: true }, ofBuild);
    let rejected = 0n;
    for (let batch = 0; batch < 4; batch += 1) {
      const spans = Array.from({ length: 3000 }, (_, index) => ({ name: `${batch} ${index}` }));
      const { partialSuccess } = await on.traces.export(requestOf("a flood", traceID, spans));
      rejected += partialSuccess?.rejectedSpans ?? 0n;
      if (partialSuccess !== undefined) {
        assert.match(partialSuccess.errorMessage, /too many, want at most 10000 spans/);
      }
    }
    assert.equal(rejected, 2000n);
    await bridge.return({}, ofBuild);
    await solving;
    const spans = await on.trace("flooded");
    named(spans, solveName);
    assert.equal(
      spans.filter(({ Resource }) => attribute(Resource, "service.name") === "a flood").length,
      10_000,
    );
    await on.worker.process.said(/"dropped":2000,.*too many spans/);
  });
});

describe("a worker with a socket for traces", () => {
  test("shows steps the socket at the path that it is given, which takes their spans", async () => {
    await using sockets = await mkdtempDisposable(join(tmpdir(), "otel-"));
    const path = join(sockets.path, "made/otel.sock");
    await using on = await fixture({ config: `[otel]\nsocketPath = "${path}"\n` });
    assert((await stat(path)).isSocket());
    const { traceID, headers } = newPlace();
    const request = toBinary(
      ExportTraceServiceRequestSchema,
      requestOf("a step", traceID, [{ name: "in a step" }]),
    );
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(request.length, 1);
    const program = assembleImage([
      await layerOf(await programs()),
      await layerOf([
        ...(await linkedProgram("/usr/bin/curl", "curl")),
        { type: "file", name: "request", content: Buffer.concat([prefix, request]) },
      ]),
    ]);
    const root = image(await pushTo(on.registry, program, "test/curl"));
    const script = [
      "env",
      `curl --silent --show-error --dump-header - --http2-prior-knowledge --unix-socket "\${OTEL_EXPORTER_OTLP_TRACES_ENDPOINT#unix://}" \\`,
      "  --header 'content-type: application/grpc' --header 'te: trailers' --data-binary @/request --output /dev/null \\",
      "  http://step/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ].join("\n");
    const tree = step(root, script, { name: "the step", user: "1000:1000", env: ["PATH=/bin:/usr/bin"] });
    await on.control.solve({ Ref: "one", Definition: definitionOf(tree) }, { headers });
    const output = await on.output("one");
    assert.match(output, /^grpc-status: 0\r?$/m);
    const spans = await on.trace("one");
    assert.equal(attribute(named(spans, "in a step").Resource, "service.name"), "a step");
    const { SpanID } = named(spans, "the step").SpanContext;
    for (const variable of [
      "OTEL_TRACES_EXPORTER=otlp",
      "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=unix:///dev/otel-grpc.sock",
      "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
      `TRACEPARENT=00-${traceID}-${SpanID}-01`,
    ]) {
      assert(output.split("\n").includes(variable), `${variable} in ${output}`);
    }

    const own = step(on.base, "env", { env: ["PATH=/bin", "OTEL_TRACES_EXPORTER=none"] });
    await on.control.solve({ Ref: "own", Definition: definitionOf(own) });
    assert.deepEqual((await on.output("own")).match(/^OTEL_TRACES_EXPORTER=.*$/gm), [
      "OTEL_TRACES_EXPORTER=none",
    ]);

    await rm(path);
    const without = step(on.base, "ls /dev/otel-grpc.sock || echo absent");
    await on.control.solve({ Ref: "without", Definition: definitionOf(without) });
    assert.match(await on.output("without"), /absent/, "a step fails for no socket");
  });

  test("has it in its root if it is given none, and takes there nothing but spans", async () => {
    await using on = await fixture();
    using channel = unixChannel(join(on.worker.root, "otel-grpc.sock"));
    const { traceID } = newPlace();
    const traces = createClient(TraceService, channel);
    assert.equal((await traces.export(requestOf("x", traceID, [{ name: "x" }]))).partialSuccess, undefined);
    await assert.rejects(createClient(Control, channel).info({}), /unimplemented/i);
    const tooLarge = requestOf("x", traceID, [{ name: "x".repeat(5 * 1024 * 1024) }]);
    await assert.rejects(traces.export(tooLarge), /resource_exhausted/i);
    const output = "ls -l /dev/otel-grpc.sock";
    await on.control.solve({ Ref: "one", Definition: definitionOf(step(on.base, output)) });
    assert.match(await on.output("one"), /^srw-rw-rw-/);
  });
});
