import assert from "node:assert/strict";
import { test } from "node:test";
import { echoing, serving } from "../echo/serving.ts";
import { frameOf, HandClient } from "../http2/hand-client.ts";
import { FrameType } from "../http2/protocol.ts";
import { logConnections } from "./log-connections.ts";

/** A log that keeps its lines. */
function keptLog() {
  const lines: unknown[] = [];
  return {
    lines,
    warn: (fields: object, message: string) => lines.push(["warn", fields, message]),
    error: (fields: object, message: string) => lines.push(["error", fields, message]),
  };
}

test("a connection that is ended for what its client did is a warning that says what that was", async () => {
  const log = keptLog();
  await using server = await serving(echoing, { observeConnection: logConnections(log) });
  using client = await HandClient.open(server.path);
  client.send(frameOf(FrameType.ping, 0, 0, Buffer.alloc(7)));
  const { payload } = await client.next(FrameType.goaway);
  const reason = "a frame of type 6 has 7 bytes, want 8";
  assert.equal(payload.toString("latin1", 8), reason);
  assert.deepEqual(log.lines, [["warn", { reason }, "connection ended"]]);
});

test("a connection that ends by itself is no line", async () => {
  const log = keptLog();
  await using server = await serving(echoing, { observeConnection: logConnections(log) });
  {
    using client = await HandClient.open(server.path);
    await client.settle();
  }
  await server.server[Symbol.asyncDispose]();
  assert.deepEqual(log.lines, []);
});

test("a mistake of ours is an error with its stack", () => {
  const log = keptLog();
  const err = new TypeError("undefined is not a function");
  logConnections(log)(err);
  assert.deepEqual(log.lines, [["error", { err }, "connection failed"]]);
});
