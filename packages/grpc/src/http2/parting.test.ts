import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { echoing, serving } from "../echo/serving.ts";
import { envelope } from "../envelope.ts";
import { callOf, frameOf, HandClient, headersOf } from "./hand-client.ts";
import { encodeFields } from "./hpack/encoder.ts";
import { ErrorCode, Flag, FrameType, uint32 } from "./protocol.ts";

const message = envelope(toBinary(StringValueSchema, create(StringValueSchema, { value: "a" })), 100);

const one = (id: number) =>
  Buffer.concat([headersOf(id, callOf("One")), frameOf(FrameType.data, Flag.endStream, id, message)]);

describe("a server that is disposed of", () => {
  test("takes the calls that were under way, then no more, and closes after the last", async () => {
    const go = Promise.withResolvers<void>();
    const started: string[] = [];
    const everyone = Promise.withResolvers<void>();
    await using server = await serving({
      one: async ({ value }) => {
        if (started.push(value) === 2) {
          everyone.resolve();
        }
        await go.promise;
        return { value };
      },
    });
    using client = await HandClient.open(server.path);
    client.send(one(1));
    await client.settle();
    const disposed = server.server[Symbol.asyncDispose]();
    const warning = await client.next(FrameType.goaway);
    assert.equal(uint32(warning.payload, 0), 2 ** 31 - 1);
    assert.equal(uint32(warning.payload, 4), ErrorCode.noError);
    const ping = await client.next(FrameType.ping);
    client.send(one(3), frameOf(FrameType.ping, Flag.ack, 0, ping.payload));
    const goaway = await client.next(FrameType.goaway);
    assert.equal(uint32(goaway.payload, 0), 3);
    await everyone.promise;
    // Too late: left alone, whatever it is.
    client.send(
      headersOf(5, callOf("One")),
      frameOf(FrameType.data, 0, 5, message),
      frameOf(FrameType.windowUpdate, 0, 5, Buffer.of(0, 0, 0, 1)),
      headersOf(5, encodeFields(["a", "b"]), Flag.endStream),
    );
    await client.settle();
    go.resolve();
    await client.next(FrameType.headers, ({ streamID, flags }) => streamID === 1 && (flags & 1) === 1);
    await client.next(FrameType.headers, ({ streamID, flags }) => streamID === 3 && (flags & 1) === 1);
    await client.closed();
    await disposed;
    assert.deepEqual(started, ["a", "a"]);
  });

  test("closes a connection without calls at once when its client has heard of it", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    const disposed = server.server[Symbol.asyncDispose]();
    const { payload } = await client.next(FrameType.ping);
    client.send(frameOf(FrameType.ping, Flag.ack, 0, payload));
    await client.closed();
    await disposed;
  });

  test("does not wait for a client that does not answer", async () => {
    await using server = await serving(echoing, { drainTimeoutMs: 60_000 });
    using client = await HandClient.open(server.path);
    await server.server[Symbol.asyncDispose]();
    await client.closed();
  });
});
