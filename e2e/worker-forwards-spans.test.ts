import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, createSecureServer } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Control } from "@oci-worker/api/buildkit/control";
import type { Span } from "@oci-worker/api/opentelemetry/trace";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
  ExportTraceServiceResponseSchema,
  TraceService,
} from "@oci-worker/api/opentelemetry/trace-service";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { createAuthority } from "./peers/certificates.ts";
import { freePort } from "./peers/free-port.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerOptions } from "./peers/worker.ts";

const program = join(import.meta.dirname, "../services/worker/bin/oci-worker");

const secret = "s3cret-t0ken";
const credentials = { OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${secret}` };
const overHttp = { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" };
/** Sent without waiting for more. */
const atOnce = { OTEL_BSP_SCHEDULE_DELAY: "0" };

/** What a collector has been sent, and a way to wait for it. */
class Received {
  readonly spans: { readonly span: Span; readonly service: string }[] = [];
  readonly authorizations = new Set<string | null | undefined>();
  #more = Promise.withResolvers<void>();

  take({ resourceSpans }: ExportTraceServiceRequest, authorization: string | null | undefined): void {
    this.authorizations.add(authorization);
    for (const { resource, scopeSpans } of resourceSpans) {
      const name = resource?.attributes.find(({ key }) => key === "service.name")?.value?.value;
      const service = name?.case === "stringValue" ? name.value : "";
      this.spans.push(...scopeSpans.flatMap(({ spans }) => spans.map((span) => ({ span, service }))));
    }
    this.#more.resolve();
  }

  /** Resolves with the span `name` when it has come. */
  async named(name: string): Promise<Span> {
    for (;;) {
      const found = this.spans.find(({ span }) => span.name === name);
      if (found !== undefined) {
        return found.span;
      }
      this.#more = Promise.withResolvers();
      await this.#more.promise;
    }
  }
}

/** Listens on 127.0.0.1; disposing ends all connections. */
async function listening<S extends Server>(server: S, port = 0) {
  const connections = new Set<{ destroy(): void }>();
  server.on("connection", (connection) => connections.add(connection));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const connection of connections) {
        connection.destroy();
      }
    },
  };
}

/** The routes of a collector. @param answer is told who is asking, and may throw. */
function collecting(received: Received, answer: (authorization: string | null) => void = () => undefined) {
  return connectNodeAdapter({
    routes: (router) =>
      router.service(TraceService, {
        export: (request, { requestHeader }) => {
          const authorization = requestHeader.get("authorization");
          received.take(request, authorization);
          answer(authorization);
          return {};
        },
      }),
  });
}

type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** Takes spans as a collector does by HTTP. */
function takingInto(received: Received): Answer {
  return async (request, response) => {
    const body = await buffer(request);
    const plain = request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
    assert.equal(`${request.method} ${request.url}`, "POST /v1/traces");
    assert.equal(request.headers["content-type"], "application/x-protobuf");
    received.take(fromBinary(ExportTraceServiceRequestSchema, plain), request.headers.authorization);
    response.setHeader("content-type", "application/x-protobuf");
    response.end(toBinary(ExportTraceServiceResponseSchema, create(ExportTraceServiceResponseSchema)));
  };
}

const httpCollector = (answer: Answer, port?: number) =>
  listening(
    createServer((request, response) => void answer(request, response)),
    port,
  );

/** A worker with this environment, and a build in it that belongs to a trace of the client's. */
async function fixture(environment: NodeJS.ProcessEnv, options: WorkerOptions = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const base = image(await pushTo(registry, await createImage()));
  const worker = undo.use(await startWorker({ ...options, environment }));
  const control = createClient(Control, undo.use(unixChannel(worker.address)));
  const ofSteps = createClient(TraceService, undo.use(unixChannel(join(worker.root, "otel-grpc.sock"))));
  const [traceID, spanID] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  const headers = { traceparent: `00-${traceID}-${spanID}-01` };
  const owned = undo.move();
  return {
    worker,
    traceID,
    spanID,
    build: (name: string) => {
      const { root } = run({ root: base, args: ["sh", "-c", `echo ${name}`], env: ["PATH=/bin"], name });
      return control.solve({ Ref: name, Definition: definitionOf(root) }, { headers });
    },
    /** What a step, or a client, tells of itself. */
    tell: (service: string, name: string, parentSpanId: string) =>
      ofSteps.export({
        resourceSpans: [
          {
            resource: {
              attributes: [
                { key: "service.name", value: { value: { case: "stringValue", value: service } } },
              ],
            },
            scopeSpans: [
              {
                spans: [
                  {
                    name,
                    traceId: Buffer.from(traceID, "hex"),
                    spanId: parentSpanId === "" ? Buffer.from(spanID, "hex") : randomBytes(8),
                    parentSpanId: Buffer.from(parentSpanId, "hex"),
                  },
                ],
              },
            ],
          },
        ],
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

const solveName = "moby.buildkit.v1.Control/Solve";

describe("a worker whose environment names a collector", () => {
  test("sends it the whole trace of a build by gRPC: of the client, the worker and the steps", async () => {
    const received = new Received();
    await using collector = await listening(createHttp2Server(collecting(received)));
    const environment = {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
      OTEL_SERVICE_NAME: "builder",
      ...credentials,
      ...atOnce,
    };
    await using on = await fixture(environment);
    await on.tell("the client", "the client's", "");
    await on.build("the step");
    const step = await received.named("the step");
    await on.tell("a program", "in the step", hex(step.spanId));
    await received.named("in the step");
    const solve = await received.named(solveName);
    assert.equal(hex(solve.parentSpanId), on.spanID);
    assert.equal(hex(step.parentSpanId), hex(solve.spanId));
    const ids = new Set(received.spans.map(({ span }) => hex(span.spanId)));
    assert.equal(ids.size, received.spans.length, "each comes once");
    for (const { span } of received.spans) {
      assert.equal(hex(span.traceId), on.traceID);
      const parent = hex(span.parentSpanId);
      assert(parent === "" || ids.has(parent), `${span.name} has a parent that is not there`);
    }
    const services = new Set(received.spans.map(({ service }) => service));
    assert.deepEqual(services, new Set(["the client", "builder", "a program"]));
    assert.deepEqual(received.authorizations, new Set([`Bearer ${secret}`]));
    await on.worker.process.stop();
    assert(!on.worker.process.log.some((line) => line.includes(secret)), "the log has a credential");
    const env = { ...process.env, ...environment };
    const { stdout, stderr } = await promisify(execFile)(program, ["--print-config"], { env });
    assert.doesNotMatch(stdout + stderr, new RegExp(secret));
  });

  test("proves by TLS who it is, and goes by no certificate but what it is told", async () => {
    const received = new Received();
    await using directory = await mkdtempDisposable(join(tmpdir(), "collector-"));
    const authority = await createAuthority(directory.path, "authority");
    const [ofCollector, ofWorker] = [await authority.sign("collector"), await authority.sign("worker")];
    const tls = {
      cert: await readFile(ofCollector.cert),
      key: await readFile(ofCollector.key),
      ca: await readFile(authority.cert),
      requestCert: true,
    };
    await using collector = await listening(createSecureServer(tls, collecting(received)));
    await using on = await fixture({
      OTEL_EXPORTER_OTLP_ENDPOINT: `127.0.0.1:${collector.port}`,
      OTEL_EXPORTER_OTLP_CERTIFICATE: authority.cert,
      OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: ofWorker.cert,
      OTEL_EXPORTER_OTLP_CLIENT_KEY: ofWorker.key,
      ...atOnce,
    });
    await on.build("by TLS");
    await received.named("by TLS");
  });

  test("sends it by HTTP what waits when it ends", async () => {
    const received = new Received();
    await using collector = await httpCollector(takingInto(received));
    await using on = await fixture({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}/`,
      OTEL_EXPORTER_OTLP_COMPRESSION: "gzip",
      OTEL_BSP_SCHEDULE_DELAY: "999999999",
      ...overHttp,
      ...credentials,
    });
    await on.build("the last");
    assert.equal(received.spans.length, 0);
    assert.equal(await on.worker.process.stop(), 0);
    const names = received.spans.map(({ span }) => span.name);
    assert(names.includes("the last") && names.includes(solveName), names.join(", "));
    assert.deepEqual(received.authorizations, new Set([`Bearer ${secret}`]));
  });

  test("builds as ever while it is down, and sends it what was done meanwhile when it is back", async () => {
    const port = await freePort();
    await using on = await fixture({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      ...overHttp,
      ...atOnce,
    });
    await on.build("meanwhile");
    await on.worker.process.said(/"why":"[^"]*ECONNREFUSED.*collector cannot be reached, spans wait for it/);
    const received = new Received();
    let refusals = 1;
    const taking = takingInto(received);
    await using _collector = await httpCollector(async (request, response) => {
      if (refusals > 0) {
        refusals -= 1;
        request.resume();
        response.writeHead(503, { "retry-after": "1" }).end();
        return;
      }
      await taking(request, response);
    }, port);
    await received.named("meanwhile");
    await on.worker.process.said(/"dropped":0,.*spans are sent to the collector again/);
    await on.build("afterwards");
    await received.named("afterwards");
  });

  for (const { protocol, collect, why } of [
    {
      protocol: "http/protobuf",
      collect: (asked: Received) =>
        httpCollector(async (request, response) => {
          const { authorization } = request.headers;
          asked.take(fromBinary(ExportTraceServiceRequestSchema, await buffer(request)), authorization);
          response.writeHead(401).end(`no such user: ${authorization}`);
        }),
      why: "it answers 401",
    },
    {
      protocol: "grpc",
      collect: (asked: Received) =>
        listening(
          createHttp2Server(
            collecting(asked, (authorization) => {
              throw new ConnectError(`no such user: ${authorization}`, Code.Unauthenticated);
            }),
          ),
        ),
      why: "[unauthenticated] no such user: ***",
    },
  ]) {
    test(`drops what it refuses by ${protocol}, counts that, and says so once and without its credentials`, async () => {
      const asked = new Received();
      await using collector = await collect(asked);
      const debugPort = await freePort();
      await using on = await fixture(
        {
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
          ...credentials,
          ...atOnce,
        },
        { args: ["--debugaddr", `127.0.0.1:${debugPort}`] },
      );
      for (const name of ["first", "second"]) {
        await on.build(name);
        await asked.named(name);
      }
      await on.worker.process.said(/collector refuses spans/);
      const figures = await (await fetch(`http://127.0.0.1:${debugPort}/metrics`)).text();
      assert.match(figures, /^ociworker_spans_dropped_total [1-9]/m);
      await on.worker.process.stop();
      const { log } = on.worker.process;
      const said = log.filter((line) => line.includes("collector refuses spans"));
      assert.deepEqual(
        said.map((line) => JSON.parse(line).why),
        [why],
      );
      const [, dropped] =
        /"sent":0,"dropped":(\d+),"msg":"not all spans have come/.exec(log.join("\n")) ?? [];
      assert.equal(Number(dropped), asked.spans.length);
      assert(!log.some((line) => line.includes(secret)), "the log has a credential");
    });
  }

  test("ends in spite of one that never answers", async () => {
    const asked = Promise.withResolvers<void>();
    await using collector = await listening(createServer(() => asked.resolve()));
    await using on = await fixture({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
      OTEL_EXPORTER_OTLP_TIMEOUT: "999999999",
      ...overHttp,
      ...atOnce,
    });
    await on.build("unheard");
    await asked.promise;
    assert.equal(await on.worker.process.stop(), 0);
    assert(on.worker.process.log.some((line) => line.includes("not all spans have come to the collector")));
  });
});
