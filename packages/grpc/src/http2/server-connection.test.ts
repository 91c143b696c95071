import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { type EchoHandlers, echoing, serving } from "../echo/serving.ts";
import { envelope } from "../envelope.ts";
import { callOf, frameOf, HandClient, headersOf, settingsOf, uint32Of } from "./hand-client.ts";
import { encodeFields } from "./hpack/encoder.ts";
import { clientPreface, ErrorCode, Flag, FrameType, Setting } from "./protocol.ts";

const message = (value: string) =>
  envelope(toBinary(StringValueSchema, create(StringValueSchema, { value })), 2 ** 24);

/** A call of One on stream `id`, whole. */
const one = (id: number, value = "a") =>
  Buffer.concat([headersOf(id, callOf("One")), frameOf(FrameType.data, Flag.endStream, id, message(value))]);

const never = new Promise<never>(() => undefined);

/** Handlers that never answer. */
const silent: EchoHandlers = { one: () => never, join: () => never };

/** Makes a call on stream `id` and reads its answer. */
async function assertAnswers(client: HandClient, id: number): Promise<void> {
  client.send(one(id, "still"));
  assert.deepEqual(await client.nextFields(), [":status", "200", "content-type", "application/grpc+proto"]);
  const { payload } = await client.next(FrameType.data, ({ streamID }) => streamID === id);
  assert.deepEqual(payload, message("still!"));
  assert.deepEqual(await client.nextFields(), ["grpc-status", "0"]);
}

const padded = (content: Buffer, padding: number) =>
  Buffer.concat([Buffer.of(padding), content, Buffer.alloc(padding)]);

const { protocolError, frameSizeError, flowControlError, streamClosed, compressionError } = ErrorCode;

describe("a connection is ended with the reason", () => {
  const block = callOf("One");
  const cases: { readonly name: string; readonly frames: Buffer[]; readonly code: number }[] = [
    {
      name: "SETTINGS that end inside one",
      frames: [frameOf(4, 0, 0, Buffer.alloc(5))],
      code: frameSizeError,
    },
    { name: "SETTINGS of a stream", frames: [frameOf(4, 0, 1)], code: protocolError },
    {
      name: "SETTINGS acknowledged with more",
      frames: [frameOf(4, 1, 0, Buffer.alloc(6))],
      code: frameSizeError,
    },
    { name: "a wrong ENABLE_PUSH", frames: [settingsOf([Setting.enablePush, 2])], code: protocolError },
    {
      name: "a window of 2 GiB in SETTINGS",
      frames: [settingsOf([Setting.initialWindowSize, 2 ** 31])],
      code: flowControlError,
    },
    {
      name: "SETTINGS that make a window too large",
      frames: [
        headersOf(1, block),
        frameOf(FrameType.windowUpdate, 0, 1, uint32Of(1000)),
        settingsOf([Setting.initialWindowSize, 2 ** 31 - 1]),
      ],
      code: flowControlError,
    },
    { name: "frames too small", frames: [settingsOf([Setting.maxFrameSize, 16_383])], code: protocolError },
    { name: "frames too large", frames: [settingsOf([Setting.maxFrameSize, 2 ** 24])], code: protocolError },
    { name: "PING of 7 bytes", frames: [frameOf(6, 0, 0, Buffer.alloc(7))], code: frameSizeError },
    { name: "PING of a stream", frames: [frameOf(6, 0, 1, Buffer.alloc(8))], code: protocolError },
    { name: "GOAWAY of a stream", frames: [frameOf(7, 0, 1, Buffer.alloc(8))], code: protocolError },
    { name: "a window opened by nothing", frames: [frameOf(8, 0, 0, uint32Of(0))], code: protocolError },
    { name: "a window too large", frames: [frameOf(8, 0, 0, uint32Of(2 ** 31 - 1))], code: flowControlError },
    { name: "WINDOW_UPDATE of 3 bytes", frames: [frameOf(8, 0, 0, Buffer.alloc(3))], code: frameSizeError },
    { name: "WINDOW_UPDATE of no stream yet", frames: [frameOf(8, 0, 1, uint32Of(1))], code: protocolError },
    { name: "RST_STREAM of no stream", frames: [frameOf(3, 0, 0, uint32Of(8))], code: protocolError },
    { name: "RST_STREAM of no stream yet", frames: [frameOf(3, 0, 1, uint32Of(8))], code: protocolError },
    {
      name: "RST_STREAM of 3 bytes",
      frames: [headersOf(1, block), frameOf(3, 0, 1, Buffer.alloc(3))],
      code: frameSizeError,
    },
    { name: "PRIORITY of no stream", frames: [frameOf(2, 0, 0, Buffer.alloc(5))], code: protocolError },
    { name: "PRIORITY of 4 bytes", frames: [frameOf(2, 0, 1, Buffer.alloc(4))], code: frameSizeError },
    { name: "PUSH_PROMISE", frames: [frameOf(5, 4, 1, uint32Of(2))], code: protocolError },
    { name: "DATA of no stream", frames: [frameOf(0, 0, 0, message("a"))], code: protocolError },
    { name: "DATA of no stream yet", frames: [frameOf(0, 0, 1, message("a"))], code: protocolError },
    {
      name: "DATA with too much padding",
      frames: [headersOf(1, block), frameOf(0, Flag.padded, 1, Buffer.of(3, 0, 0))],
      code: protocolError,
    },
    {
      name: "padded DATA without a length",
      frames: [headersOf(1, block), frameOf(0, Flag.padded, 1)],
      code: protocolError,
    },
    { name: "HEADERS of no stream", frames: [headersOf(0, block)], code: protocolError },
    { name: "HEADERS of a stream of the server's", frames: [headersOf(2, block)], code: protocolError },
    {
      name: "HEADERS of an earlier stream",
      frames: [headersOf(5, block), headersOf(3, block)],
      code: streamClosed,
    },
    {
      name: "HEADERS with too much padding",
      frames: [headersOf(1, Buffer.of(200, 0x82), Flag.padded)],
      code: protocolError,
    },
    {
      name: "HEADERS without their priority",
      frames: [headersOf(1, Buffer.of(0), Flag.priority)],
      code: frameSizeError,
    },
    {
      name: "HEADERS that cannot be decoded",
      frames: [headersOf(1, Buffer.of(0xbe))],
      code: compressionError,
    },
    { name: "CONTINUATION of nothing", frames: [frameOf(9, 4, 1, block)], code: protocolError },
    {
      name: "CONTINUATION of another stream",
      frames: [frameOf(1, 0, 1, block), frameOf(9, 4, 3)],
      code: protocolError,
    },
    {
      name: "a header block with a PING in it",
      frames: [frameOf(1, 0, 1, block), frameOf(6, 0, 0, Buffer.alloc(8)), frameOf(9, 4, 1)],
      code: protocolError,
    },
    {
      name: "a header block with DATA in it",
      frames: [headersOf(1, block), frameOf(1, 0, 3, block), frameOf(0, 0, 1, message("a"))],
      code: protocolError,
    },
    {
      name: "a header block with an unknown frame in it",
      frames: [frameOf(1, 0, 1, block), frameOf(0x16, 0, 0), frameOf(9, 4, 1)],
      code: protocolError,
    },
    {
      name: "a frame over 16 KiB",
      frames: [frameOf(0x16, 0, 0, Buffer.alloc(16_385))],
      code: frameSizeError,
    },
  ];
  for (const { name, frames, code } of cases) {
    test(name, async () => {
      await using server = await serving(silent);
      using client = await HandClient.open(server.path);
      client.send(...frames);
      assert.equal(await client.failure(), code);
      await client.closed();
    });
  }

  const greetings = [
    { name: "the first frame is no SETTINGS", bytes: frameOf(6, 0, 0, Buffer.alloc(8)) },
    { name: "the first frame acknowledges SETTINGS", bytes: frameOf(4, 1, 0) },
  ];
  for (const { name, bytes } of greetings) {
    test(name, async () => {
      await using server = await serving(silent);
      using client = await HandClient.connect(server.path);
      client.send(clientPreface, bytes);
      assert.equal(await client.failure(), protocolError);
    });
  }

  test("trailers on a stream that is over", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    await assertAnswers(client, 1);
    client.send(headersOf(1, encodeFields(["a", "b"]), Flag.endStream));
    assert.equal(await client.failure(), streamClosed);
  });
});

describe("a stream is ended with the reason, and others go on", () => {
  const head = [":method", "POST", ":scheme", "http", ":path", "/echo.v1.Echo/One"];
  const type = ["content-type", "application/grpc"];
  const open = headersOf(1, callOf("One"));
  const fields = (...raw: string[]) => [headersOf(1, encodeFields(raw))];
  const cases: { readonly name: string; readonly frames: Buffer[]; readonly code?: number }[] = [
    { name: "a name in upper case", frames: fields(...head, ...type, "X-A", "b") },
    { name: "an empty name", frames: fields(...head, ...type, "", "b") },
    { name: "a name with a space", frames: fields(...head, ...type, "a b", "c") },
    { name: "a value with a line break", frames: fields(...head, ...type, "a", "b\r\nc") },
    { name: "a value with a NUL", frames: fields(...head, ...type, "a", "b\0") },
    { name: "a value that begins with a space", frames: fields(...head, ...type, "a", " b") },
    { name: "an unknown pseudo header", frames: fields(...head, ":protocol", "x", ...type) },
    { name: "a pseudo header of responses", frames: fields(...head, ":status", "200", ...type) },
    { name: "a pseudo header after others", frames: fields(...head, ...type, ":authority", "x") },
    { name: "a pseudo header twice", frames: fields(...head, ":path", "/", ...type) },
    { name: "no :method", frames: fields(...head.slice(2), ...type) },
    { name: "no :scheme", frames: fields(...head.slice(0, 2), ...head.slice(4), ...type) },
    { name: "no :path", frames: fields(...head.slice(0, 4), ...type) },
    { name: "an empty :path", frames: fields(...head.slice(0, 4), ":path", "", ...type) },
    { name: "a header of the connection", frames: fields(...head, ...type, "connection", "close") },
    { name: "another te than trailers", frames: fields(...head, ...type, "te", "gzip") },
    { name: "a content-length that is none", frames: fields(...head, ...type, "content-length", "-1") },
    {
      name: "less content than announced",
      frames: [
        headersOf(1, callOf("One", "content-length", "100")),
        frameOf(0, Flag.endStream, 1, message("a")),
      ],
    },
    {
      name: "more content than announced",
      frames: [headersOf(1, callOf("One", "content-length", "1")), frameOf(0, 0, 1, message("a"))],
    },
    {
      name: "no content where some was announced",
      frames: [headersOf(1, callOf("One", "content-length", "1"), Flag.endStream)],
    },
    { name: "trailers that end nothing", frames: [open, headersOf(1, encodeFields(["a", "b"]))] },
    {
      name: "a pseudo header in trailers",
      frames: [open, headersOf(1, encodeFields([":path", "/"]), Flag.endStream)],
    },
    { name: "a window opened by nothing", frames: [open, frameOf(8, 0, 1, uint32Of(0))] },
    {
      name: "a window too large",
      frames: [open, frameOf(8, 0, 1, uint32Of(2 ** 31 - 1))],
      code: flowControlError,
    },
    { name: "DATA after the end", frames: [one(1), frameOf(0, 0, 1, message("b"))], code: streamClosed },
    {
      name: "trailers after the end",
      frames: [one(1), headersOf(1, encodeFields(["a", "b"]), Flag.endStream)],
      code: streamClosed,
    },
  ];
  for (const { name, frames, code = protocolError } of cases) {
    test(name, async () => {
      // The first call is left without an answer, so that what is wrong finds its stream still open.
      let calls = 0;
      const handlers: EchoHandlers = {
        one: ({ value }) => {
          calls += 1;
          return value === "still" ? { value: "still!" } : never;
        },
      };
      await using server = await serving(handlers);
      using client = await HandClient.open(server.path);
      client.send(...frames);
      assert.equal(await client.reset(1), code);
      await assertAnswers(client, 3);
      assert(calls <= 2);
    });
  }

  test("DATA on a stream that is over", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    await assertAnswers(client, 1);
    client.send(frameOf(0, 0, 1, message("late")));
    assert.equal(await client.reset(1), streamClosed);
    await assertAnswers(client, 3);
  });

  test("more content than its window, if the handler does not read", async () => {
    await using server = await serving(silent);
    using client = await HandClient.open(server.path);
    // The messages that are held back may be many; a mebibyte is the window.
    const full = Buffer.concat(Array.from({ length: 16 }, () => message("x".repeat(1000))));
    client.send(headersOf(1, callOf("Join")));
    for (let sent = 0; sent <= 3 * 1024 * 1024; sent += full.length) {
      client.send(frameOf(0, 0, 1, full));
    }
    assert.equal(await client.reset(1), flowControlError);
    await client.settle();
  });
});

describe("a connection leaves alone", () => {
  const cases: { readonly name: string; readonly frames: Buffer[] }[] = [
    { name: "unknown types of frames", frames: [frameOf(0x42, 0xff, 7, Buffer.alloc(100))] },
    { name: "unknown settings", frames: [settingsOf([0x42, 42])] },
    { name: "PRIORITY", frames: [frameOf(2, 0, 9, Buffer.alloc(5))] },
    { name: "GOAWAY", frames: [frameOf(7, 0, 0, Buffer.alloc(8))] },
    { name: "answers to pings that nobody sent", frames: [frameOf(6, 1, 0, Buffer.alloc(8))] },
    { name: "unknown flags", frames: [frameOf(6, 0xfe, 0, Buffer.alloc(8))] },
  ];
  for (const { name, frames } of cases) {
    test(name, async () => {
      await using server = await serving(echoing);
      using client = await HandClient.open(server.path);
      client.send(...frames);
      await assertAnswers(client, 1);
    });
  }

  test("what comes late on a stream that is over", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    await assertAnswers(client, 1);
    client.send(frameOf(8, 0, 1, uint32Of(1)), frameOf(3, 0, 1, uint32Of(ErrorCode.cancel)));
    await assertAnswers(client, 3);
  });

  test("what comes on a stream that it has answered before its end", async () => {
    await using server = await serving(echoing, { maxMessageBytes: 100 });
    using client = await HandClient.open(server.path);
    client.send(headersOf(1, callOf("One")), frameOf(0, 0, 1, message("x".repeat(1000))));
    const fields = await client.nextFields();
    assert.deepEqual(fields.slice(4, 6), ["grpc-status", "8"]);
    assert.equal(await client.reset(1), ErrorCode.noError);
    client.send(frameOf(0, 0, 1, Buffer.alloc(1000)));
    client.send(headersOf(1, encodeFields(["a", "b"]), Flag.endStream));
    await assertAnswers(client, 3);
  });
});

describe("a request", () => {
  test("may be padded, have a priority, and end with trailers", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    const priority = Buffer.concat([uint32Of(0x8000_0000), Buffer.of(16)]);
    const block = padded(Buffer.concat([priority, callOf("One")]), 30);
    client.send(
      headersOf(1, block, Flag.padded | Flag.priority),
      frameOf(0, Flag.padded, 1, padded(message("pad").subarray(0, 4), 255)),
      frameOf(0, Flag.padded, 1, padded(Buffer.alloc(0), 0)),
      frameOf(0, 0, 1, message("pad").subarray(4)),
      headersOf(1, encodeFields(["a", "b"]), Flag.endStream),
    );
    const { payload } = await client.next(FrameType.data);
    assert.deepEqual(payload, message("pad!"));
  });

  test("may have its headers in many frames, some of them empty", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    const block = callOf("One");
    client.send(frameOf(FrameType.headers, 0, 1, block.subarray(0, 1)));
    for (let offset = 1; offset < block.length; offset += 7) {
      client.send(frameOf(FrameType.continuation, 0, 1, block.subarray(offset, offset + 7)));
    }
    client.send(frameOf(FrameType.continuation, Flag.endHeaders, 1));
    client.send(frameOf(0, Flag.endStream, 1, message("split")));
    const { payload } = await client.next(FrameType.data);
    assert.deepEqual(payload, message("split!"));
  });

  test("may come byte by byte", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.connect(server.path);
    const bytes = Buffer.concat([clientPreface, settingsOf([Setting.enablePush, 0]), one(1, "slow")]);
    for (const byte of bytes) {
      await new Promise<unknown>((resolve) => client.socket.write(Buffer.of(byte), resolve));
    }
    const { payload } = await client.next(FrameType.data);
    assert.deepEqual(payload, message("slow!"));
  });

  test("is recognized by its bytes only as long as they mean the same", async () => {
    const paths: string[] = [];
    await using server = await serving({
      one: (_request, { requestHeader }) => {
        paths.push(requestHeader.get("x-who") ?? "");
        return {};
      },
    });
    using client = await HandClient.open(server.path);
    const put = (who: string) =>
      Buffer.concat([Buffer.of(0x40, 5), Buffer.from("x-who"), Buffer.of(who.length), Buffer.from(who)]);
    // 0xbe is the latest entry of the table.
    const latest = Buffer.concat([callOf("One"), Buffer.of(0xbe)]);
    const call = (id: number, block: Buffer) => [
      headersOf(id, block),
      frameOf(0, Flag.endStream, id, message("a")),
    ];
    client.send(...call(1, Buffer.concat([callOf("One"), put("first")])));
    client.send(...call(3, latest), ...call(5, latest));
    client.send(...call(7, Buffer.concat([callOf("One"), put("second")])));
    client.send(...call(9, latest), ...call(11, latest));
    await client.next(FrameType.headers, ({ streamID, flags }) => streamID === 11 && (flags & 1) === 1);
    assert.deepEqual(paths, ["first", "first", "first", "second", "second", "second"]);
  });

  test("with too many headers is refused by name, and the table is followed all the same", async () => {
    await using server = await serving(echoing);
    using client = await HandClient.open(server.path);
    const many = Array.from({ length: 70 }, (_, index) => [`x-${index}`, "y".repeat(1000)]).flat();
    const block = callOf("One", ...many);
    const first = frameOf(FrameType.headers, 0, 1, block.subarray(0, 16_384));
    const rest: Buffer[] = [];
    for (let offset = 16_384; offset < block.length; offset += 16_384) {
      const part = block.subarray(offset, offset + 16_384);
      rest.push(
        frameOf(FrameType.continuation, offset + 16_384 < block.length ? 0 : Flag.endHeaders, 1, part),
      );
    }
    client.send(first, ...rest);
    const fields = await client.nextFields();
    assert.deepEqual(fields.slice(4, 6), ["grpc-status", "8"]);
    assert.match(String(fields[7]), /metadata are over the limit of 65536 bytes/);
    await assertAnswers(client, 3);
  });

  test("over the limit of calls at a time is refused so that it is tried again", async () => {
    await using server = await serving(silent);
    using client = await HandClient.open(server.path);
    for (let id = 1; id <= 2 * 4096; id += 2) {
      client.send(one(id));
    }
    client.send(one(2 * 4096 + 1));
    assert.equal(await client.reset(2 * 4096 + 1), ErrorCode.refusedStream);
  });
});
