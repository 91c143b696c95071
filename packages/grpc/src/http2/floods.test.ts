import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { unixChannel } from "../client/channel.ts";
import { Echo } from "../echo/service.ts";
import { echoing, serving } from "../echo/serving.ts";
import { callOf, frameOf, HandClient, headersOf, settingsOf, uint32Of } from "./hand-client.ts";
import { ErrorCode, FrameType } from "./protocol.ts";

/** More than a connection may do at once and in the time that a test takes. */
const tooMany = 100_000;

const block = callOf("One");

describe("a client loses its connection, and no other client does, by", () => {
  const floods: {
    readonly name: string;
    readonly frames: (index: number) => Buffer;
    readonly before?: Buffer;
  }[] = [
    { name: "pings", frames: () => frameOf(FrameType.ping, 0, 0, Buffer.alloc(8)) },
    { name: "settings", frames: () => settingsOf() },
    { name: "priorities", frames: () => frameOf(FrameType.priority, 0, 1, Buffer.alloc(5)) },
    { name: "frames of an unknown type", frames: () => frameOf(0x42, 0, 0) },
    { name: "windows", frames: () => frameOf(FrameType.windowUpdate, 0, 0, uint32Of(1)) },
    {
      name: "content without a byte",
      before: headersOf(1, callOf("Join")),
      frames: () => frameOf(FrameType.data, 0, 1),
    },
    {
      name: "calls that it takes back at once (CVE-2023-44487)",
      frames: (index) =>
        Buffer.concat([
          headersOf(2 * index + 1, block),
          frameOf(FrameType.rstStream, 0, 2 * index + 1, uint32Of(ErrorCode.cancel)),
        ]),
    },
    {
      name: "calls that it makes us take back (CVE-2025-8671)",
      frames: (index) =>
        Buffer.concat([
          headersOf(2 * index + 1, block),
          frameOf(FrameType.windowUpdate, 0, 2 * index + 1, uint32Of(0)),
        ]),
    },
    {
      name: "headers that do not end (CVE-2024-27983)",
      before: frameOf(FrameType.headers, 0, 1, block),
      frames: () => frameOf(FrameType.continuation, 0, 1, Buffer.alloc(0)),
    },
    {
      name: "headers without an end to their length",
      before: frameOf(FrameType.headers, 0, 1, block),
      frames: () => frameOf(FrameType.continuation, 0, 1, Buffer.alloc(16_384, 0x82)),
    },
  ];
  for (const { name, frames, before } of floods) {
    test(name, async () => {
      await using server = await serving(echoing);
      using channel = unixChannel(server.path);
      const other = createClient(Echo, channel);
      assert.equal((await other.one({ value: "a" })).value, "a!");
      using client = await HandClient.open(server.path);
      if (before !== undefined) {
        client.send(before);
      }
      let isOver = false;
      const failure = client.failure().finally(() => {
        isOver = true;
      });
      for (let index = 0; index < tooMany && !isOver; index += 100) {
        const batch = Array.from({ length: 100 }, (_, at) => frames(index + at));
        await new Promise<void>((resolve) => client.socket.write(Buffer.concat(batch), () => resolve()));
      }
      assert.equal(await failure, ErrorCode.enhanceYourCalm);
      assert.equal((await other.one({ value: "b" })).value, "b!");
    });
  }
});

describe("a client may", () => {
  test("ping with every message, as Go's does to measure the line", async () => {
    await using server = await serving({
      async *count() {
        for (let number = 0; number < 30_000; number += 1) {
          yield {};
        }
      },
    });
    using client = await HandClient.open(server.path);
    client.send(headersOf(1, callOf("Count")), frameOf(FrameType.data, 1, 1, Buffer.alloc(5)));
    const ping = frameOf(FrameType.ping, 0, 0, Buffer.alloc(8));
    for (let number = 0; number < 30_000; number += 1) {
      await client.next(FrameType.data);
      client.send(ping, frameOf(FrameType.windowUpdate, 0, 0, uint32Of(5)), frameOf(8, 0, 1, uint32Of(5)));
    }
    await client.settle();
  });

  test("take back a thousand calls at a time", async () => {
    await using server = await serving({ ...echoing, join: () => new Promise(() => undefined) });
    using client = await HandClient.open(server.path);
    for (let id = 1; id < 2000; id += 2) {
      client.send(headersOf(id, callOf("Join")));
    }
    for (let id = 1; id < 2000; id += 2) {
      client.send(frameOf(FrameType.rstStream, 0, id, uint32Of(ErrorCode.cancel)));
    }
    await client.settle();
  });
});

describe("a connection that says nothing", () => {
  test("is closed after a while", async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    await using server = await serving(echoing);
    using silent = await HandClient.connect(server.path);
    using slow = await HandClient.connect(server.path);
    slow.send(Buffer.from("PRI * HTTP"));
    // The server's settings show that it has taken the connection.
    await silent.next(FrameType.settings);
    await slow.next(FrameType.settings);
    context.mock.timers.tick(10_000);
    await Promise.all([silent.closed(), slow.closed()]);
  });

  test("after its greeting stays open", async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    await using server = await serving(echoing);
    using idle = await HandClient.open(server.path);
    context.mock.timers.tick(1_000_000);
    await idle.settle();
    context.mock.timers.reset();
  });
});
