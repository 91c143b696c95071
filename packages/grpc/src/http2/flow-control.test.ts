import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { Duplex } from "node:stream";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { unixChannel } from "../client/channel.ts";
import { Echo } from "../echo/service.ts";
import { type EchoHandlers, echoing, serving } from "../echo/serving.ts";
import { envelope } from "../envelope.ts";
import { implement } from "../server/router.ts";
import { serveDuplex } from "../server/serve.ts";
import { callOf, frameOf, HandClient, headersOf, settingsOf, uint32Of } from "./hand-client.ts";
import { clientPreface, ErrorCode, Flag, FrameType, Setting } from "./protocol.ts";

const message = (value: string) =>
  envelope(toBinary(StringValueSchema, create(StringValueSchema, { value })), 2 ** 24);

const call = (id: number, method: string, value: string) =>
  Buffer.concat([headersOf(id, callOf(method)), frameOf(FrameType.data, Flag.endStream, id, message(value))]);

const open = (id: number, bytes: number) => frameOf(FrameType.windowUpdate, 0, id, uint32Of(bytes));

const window = (bytes: number) => settingsOf([Setting.initialWindowSize, bytes]);

/** What came of content on a stream, of what came at all. */
async function contentOf(client: HandClient, id: number): Promise<number[]> {
  const frames = await client.settle();
  return frames
    .filter(({ type, streamID }) => type === FrameType.data && streamID === id)
    .map(({ payload }) => payload.length);
}

describe("content is sent", () => {
  const big = "x".repeat(50_000);
  const answer = message(big);
  const handlers: EchoHandlers = { one: () => ({ value: big }) };

  test("only as far as the stream's window, and to the end when it opens", async () => {
    await using server = await serving(handlers);
    using client = await HandClient.open(server.path, window(10));
    client.send(call(1, "One", "a"));
    assert.deepEqual(await contentOf(client, 1), [10]);
    client.send(open(1, 5));
    assert.deepEqual(await contentOf(client, 1), [5]);
    client.send(open(1, 100_000));
    const rest = answer.length - 15;
    const frames = await client.settle();
    const content = frames.filter(({ type }) => type === FrameType.data);
    assert.deepEqual(
      content.map(({ payload }) => payload.length),
      [16_384, 16_384, 16_384, rest - 3 * 16_384],
    );
    assert.equal(frames.at(-1)?.type, FrameType.headers);
    assert.equal(frames.at(-1)?.flags, Flag.endHeaders | Flag.endStream);
  });

  test("without any window not at all, but its headers are", async () => {
    await using server = await serving(handlers);
    using client = await HandClient.open(server.path, window(0));
    client.send(call(1, "One", "a"));
    const frames = await client.settle();
    assert.deepEqual(
      frames.map(({ type, flags }) => [type, flags]),
      [[FrameType.headers, Flag.endHeaders]],
    );
  });

  test("by a window that a setting changes, below zero too", async () => {
    await using server = await serving(handlers);
    using client = await HandClient.open(server.path, window(1000));
    client.send(call(1, "One", "a"));
    assert.deepEqual(await contentOf(client, 1), [1000]);
    // 900 less than it has used up.
    client.send(window(100), open(1, 900));
    assert.deepEqual(await contentOf(client, 1), []);
    client.send(open(1, 1));
    assert.deepEqual(await contentOf(client, 1), [1]);
    client.send(window(150));
    assert.deepEqual(await contentOf(client, 1), [50]);
  });

  test("only as far as the connection's window, on all streams in turns", async () => {
    await using server = await serving(handlers);
    using client = await HandClient.open(server.path, window(2 ** 20));
    client.send(call(1, "One", "a"), call(3, "One", "a"), call(5, "One", "a"));
    const first = await client.settle();
    const bytes = first.reduce((sum, { type, payload }) => sum + (type === 0 ? payload.length : 0), 0);
    assert.equal(bytes, 65_535);
    client.send(open(0, 40_000));
    const later = (await client.settle()).filter(({ type }) => type === FrameType.data);
    assert(new Set(later.map(({ streamID }) => streamID)).size > 1);
    client.send(open(0, 2 ** 20));
    const ends = (await client.settle()).filter(({ flags }) => (flags & Flag.endStream) !== 0);
    assert.equal(ends.length, 2 + (first.some(({ flags }) => flags === 5) ? 0 : 1));
  });

  test("in frames as large as the client wants them", async () => {
    await using server = await serving(handlers);
    const settings = settingsOf([Setting.maxFrameSize, 40_000], [Setting.initialWindowSize, 2 ** 20]);
    using client = await HandClient.open(server.path, settings);
    client.send(call(1, "One", "a"));
    assert.deepEqual(await contentOf(client, 1), [40_000, answer.length - 40_000]);
  });

  test("to a client that keeps no table after it is told so", async () => {
    await using server = await serving(handlers);
    using client = await HandClient.open(server.path, settingsOf([Setting.headerTableSize, 0]));
    client.send(call(1, "One", "a"), call(3, "One", "b"));
    const [first, , , second] = await client.settle();
    assert.equal(first?.payload[0], 0x20);
    assert.notEqual(second?.payload[0], 0x20);
  });
});

describe("a reader that does not read", () => {
  const chunk = "x".repeat(60_000);

  test("holds its handler up, and is answered to the end when it does", async () => {
    let made = 0;
    await using server = await serving({
      async *count() {
        for (; made < 20; made += 1) {
          yield { value: chunk };
        }
      },
    });
    using client = await HandClient.open(server.path);
    client.send(call(1, "Count", "a"));
    assert.deepEqual((await client.nextFields()).slice(0, 2), [":status", "200"]);
    let got = (await contentOf(client, 1)).reduce((sum, length) => sum + length, 0);
    assert.equal(got, 65_535);
    await client.settle();
    assert(made <= 2, `${made} messages made`);
    client.send(open(0, 2 ** 30), open(1, 2 ** 30));
    for (;;) {
      const frame = await client.next(FrameType.data, ({ streamID }) => streamID === 1);
      got += frame.payload.length;
      if (got === 20 * message(chunk).length) {
        break;
      }
    }
    assert.deepEqual(await client.nextFields(), ["grpc-status", "0"]);
  });

  test("holds up nobody else on its connection", async () => {
    await using server = await serving({
      ...echoing,
      async *count() {
        for (;;) {
          yield { value: chunk };
        }
      },
    });
    const session = connectHttp2("http://localhost", { createConnection: () => connect(server.path) });
    await once(session, "connect");
    const request = (path: string) =>
      session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
    // Nobody listens for the data of this one.
    const stuck = request("/echo.v1.Echo/Count").on("error", () => undefined);
    stuck.end(message("a"));
    await once(stuck, "response");
    const quick = request("/echo.v1.Echo/One").resume();
    quick.end(message("b"));
    const [trailers] = await once(quick, "trailers");
    assert.equal(trailers["grpc-status"], "0");
    session.destroy();
  });

  test("tells the handler when it goes away", async () => {
    const ended = Promise.withResolvers<void>();
    await using server = await serving({
      async *count() {
        try {
          for (;;) {
            yield { value: chunk };
          }
        } finally {
          ended.resolve();
        }
      },
    });
    using client = await HandClient.open(server.path);
    client.send(call(1, "Count", "a"));
    await client.settle();
    client.send(frameOf(FrameType.rstStream, 0, 1, uint32Of(ErrorCode.cancel)));
    await ended.promise;
  });

  test("hears of its deadline, and what it has not taken is dropped", async () => {
    await using server = await serving({
      async *count() {
        for (;;) {
          yield { value: chunk };
        }
      },
    });
    using client = await HandClient.open(server.path, window(0));
    const block = callOf("Count", "grpc-timeout", "1m");
    client.send(headersOf(1, block), frameOf(FrameType.data, Flag.endStream, 1, message("a")));
    await client.nextFields();
    assert.deepEqual((await client.nextFields()).slice(0, 2), ["grpc-status", "4"]);
  });

  test("of a stuck line is read from no more, and what waits for it stays small", async () => {
    let isStuck = true;
    let written = 0;
    const waiting: (() => void)[] = [];
    const line = new Duplex({
      read: () => undefined,
      write(bytes: Buffer, _encoding, callback) {
        written += bytes.length;
        if (isStuck) {
          waiting.push(callback);
        } else {
          callback();
        }
      },
    });
    serveDuplex(line, { implementations: [implement(Echo, echoing)] });
    line.push(Buffer.concat([clientPreface, settingsOf()]));
    // Each of them is answered at once, with an error, whose answer is larger than it.
    let id = 1;
    const request = () => {
      id += 2;
      return headersOf(id - 2, callOf("None"), Flag.endStream);
    };
    const batch = 200;
    let batches = 0;
    for (; !line.isPaused(); batches += 1) {
      assert(batches < 1000, "reading is never paused");
      line.push(Buffer.concat(Array.from({ length: batch }, request)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert(line.writableLength < 2 * 1024 * 1024, `${line.writableLength} bytes wait`);
    isStuck = false;
    waiting.splice(0).forEach((done) => {
      done();
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert(!line.isPaused());
    assert.equal(line.writableLength, 0);
    assert(written > 1024 * 1024);
    line.destroy();
  });
});

describe("a handler that does not read", () => {
  test("holds its client up, and gets everything when it does", async () => {
    const go = Promise.withResolvers<void>();
    let got = 0;
    await using server = await serving({
      ...echoing,
      join: async (requests) => {
        await go.promise;
        for await (const { value } of requests) {
          got += value.length;
        }
        return { value: String(got) };
      },
    });
    using channel = unixChannel(server.path);
    const echo = createClient(Echo, channel);
    let sent = 0;
    const part = "y".repeat(100_000);
    async function* parts() {
      for (; sent < 50; sent += 1) {
        yield { value: part };
      }
    }
    const joined = echo.join(parts());
    // Another call on the same connection is answered meanwhile.
    assert.equal((await echo.one({ value: "a" })).value, "a!");
    go.resolve();
    assert.equal((await joined).value, String(50 * part.length));
  });
});
