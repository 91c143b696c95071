import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ExportTraceServiceRequestSchema,
  ExportTraceServiceResponseSchema,
} from "@oci-worker/api/opentelemetry/trace-service";
import { pino } from "pino";
import { requestOf } from "../sample-span.ts";
import { readCollector } from "./collector.ts";
import { SpanForwarder } from "./span-forwarder.ts";

type Answer = (names: readonly string[], response: ServerResponse) => void | Promise<void>;

/** A forwarder to a collector that answers each batch, whose spans it is told by name, as `answer` says. */
async function fixture(answer: Answer, environment: NodeJS.ProcessEnv = {}) {
  const server = createServer((request, response) => void answered(request, response, answer));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const collector = await readCollector({
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    OTEL_BSP_SCHEDULE_DELAY: "0",
    ...environment,
  });
  assert(collector !== undefined);
  const lines: { readonly msg: string; readonly why?: string; readonly dropped?: number }[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const forwarder = new SpanForwarder(collector, log);
  return {
    forwarder,
    lines,
    add: (...names: readonly string[]) => {
      for (const spans of requestOf(...names.map((name) => ({ name }))).resourceSpans) {
        forwarder.add(spans);
      }
    },
    [Symbol.asyncDispose]: async () => {
      await forwarder[Symbol.asyncDispose]();
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answered(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  const { resourceSpans } = fromBinary(ExportTraceServiceRequestSchema, await buffer(request));
  const names = resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name)),
  );
  await answer(names, response);
}

describe("a forwarder of spans", () => {
  test("sends in batches what comes while one is on its way, the oldest giving way, and tells that once", async () => {
    const batches: (readonly string[])[] = [];
    const asked = Promise.withResolvers<void>();
    const may = Promise.withResolvers<void>();
    const on = await fixture(
      async (names, response) => {
        batches.push(names);
        asked.resolve();
        await may.promise;
        response.end();
      },
      { OTEL_BSP_MAX_QUEUE_SIZE: "3", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2" },
    );
    on.add("a");
    await asked.promise;
    on.add("b", "c", "d", "e");
    on.add("f");
    may.resolve();
    await on[Symbol.asyncDispose]();
    assert.deepEqual(batches, [["a"], ["d", "e"], ["f"]]);
    assert.deepEqual([on.forwarder.sent, on.forwarder.dropped], [4, 2]);
    assert.deepEqual(
      on.lines.map(({ msg, dropped }) => [msg, dropped]),
      [
        ["spans are dropped, the oldest first", 1],
        ["not all spans have come to the collector", 2],
      ],
    );
  });

  test("counts those of a batch that the collector does not take", async () => {
    const on = await fixture((_names, response) => {
      const partialSuccess = { rejectedSpans: 2n, errorMessage: "too long ago" };
      response.end(
        toBinary(
          ExportTraceServiceResponseSchema,
          create(ExportTraceServiceResponseSchema, { partialSuccess }),
        ),
      );
    });
    on.add("a", "b", "c");
    await on[Symbol.asyncDispose]();
    assert.deepEqual([on.forwarder.sent, on.forwarder.dropped], [1, 2]);
    assert.equal(on.lines[0]?.why, "too long ago");
  });

  test("follows no redirect, and gives up at its end what cannot be sent", async () => {
    let requests = 0;
    const elsewhere = await fixture((_names, response) => {
      requests += 1;
      response.writeHead(307, { location: "/elsewhere" }).end();
    });
    elsewhere.add("a");
    await elsewhere[Symbol.asyncDispose]();
    assert.equal(requests, 1);
    assert.deepEqual([elsewhere.forwarder.sent, elsewhere.forwarder.dropped], [0, 1]);
    assert.equal(elsewhere.lines[0]?.why, "it answers 307");

    const asked = Promise.withResolvers<void>();
    const busy = await fixture((_names, response) => {
      asked.resolve();
      response.writeHead(503, { "retry-after": "3600" }).end();
    });
    busy.add("a", "b");
    await asked.promise;
    await busy[Symbol.asyncDispose]();
    assert.deepEqual([busy.forwarder.sent, busy.forwarder.dropped], [0, 2]);
    assert.equal(busy.lines.filter(({ msg }) => msg.startsWith("collector cannot be reached")).length, 1);
  });
});
