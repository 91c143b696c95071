import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type Packet,
  PacketSchema,
  Packet_PacketType as PacketType,
  StatSchema,
} from "@oci-worker/api/session/fsutil";
import type { FileTree } from "./directory-tree.ts";
import { goMode } from "./mode.ts";
import type { PacketInit } from "./packet-stream.ts";
import { sendTree } from "./send.ts";

/** A directory and two files in it, the second of which cannot be read. */
const tree: FileTree = {
  entries: () =>
    [
      { path: "d", mode: goMode("directory", 0o755) },
      { path: "d/f", mode: goMode("file", 0o644) },
      { path: "d/g", mode: goMode("file", 0o644) },
      { path: "d/h", mode: goMode("file", 0o644), linkname: "d/f" },
    ].map((init) => create(StatSchema, init)),
  async *read(path) {
    yield Buffer.alloc(40_000, path);
    if (path === "d/g") {
      throw new Error("EIO: the disk is broken");
    }
  },
};

/** A receiver that does as `script` says each time it gets a packet. */
function sendTo(script: (packet: Packet, sent: readonly Packet[]) => PacketInit | undefined) {
  const sent: Packet[] = [];
  const answers: Packet[] = [];
  let wake = Promise.withResolvers<void>();
  let closed = false;
  const stream = {
    incoming: {
      next: async (): Promise<IteratorResult<Packet, undefined>> => {
        while (answers.length === 0 && !closed) {
          await wake.promise;
        }
        const value = answers.shift();
        return value === undefined ? { done: true, value: undefined } : { done: false, value };
      },
    },
    send: (init: PacketInit) => {
      const packet = create(PacketSchema, init);
      sent.push(packet);
      const answer = script(packet, sent);
      if (answer !== undefined) {
        answers.push(create(PacketSchema, answer));
        wake.resolve();
        wake = Promise.withResolvers();
      }
      return Promise.resolve();
    },
  };
  const close = () => {
    closed = true;
    wake.resolve();
  };
  return { result: sendTree(stream, tree), sent, close };
}

const isEndOfStats = ({ type, stat }: Packet) => type === PacketType.PACKET_STAT && stat === undefined;
const isEndOfFile = ({ type, data }: Packet) => type === PacketType.PACKET_DATA && data.length === 0;
const request = (ID: number): PacketInit => ({ type: PacketType.PACKET_REQ, ID });
const fin: PacketInit = { type: PacketType.PACKET_FIN };

test("content goes out in chunks of 32 KiB, its end as an empty one, and the end is answered", async () => {
  const { result, sent } = sendTo((packet) => {
    if (isEndOfStats(packet)) {
      return request(1);
    }
    return isEndOfFile(packet) ? fin : undefined;
  });
  assert.deepEqual(await result, { entries: 4, contentBytes: 40_000 });
  assert.deepEqual(
    sent.map(({ type, ID, data, stat }) => [type, ID, data.length, stat?.path]),
    [
      [PacketType.PACKET_STAT, 0, 0, "d"],
      [PacketType.PACKET_STAT, 0, 0, "d/f"],
      [PacketType.PACKET_STAT, 0, 0, "d/g"],
      [PacketType.PACKET_STAT, 0, 0, "d/h"],
      [PacketType.PACKET_STAT, 0, 0, undefined],
      [PacketType.PACKET_DATA, 1, 32_768, undefined],
      [PacketType.PACKET_DATA, 1, 7232, undefined],
      [PacketType.PACKET_DATA, 1, 0, undefined],
      [PacketType.PACKET_FIN, 0, 0, undefined],
    ],
  );
});

describe("a receiver that breaks the protocol is told:", () => {
  const cases: [what: string, script: Parameters<typeof sendTo>[0], text: RegExp][] = [
    [
      "a request for a directory",
      (packet) => (isEndOfStats(packet) ? request(0) : undefined),
      /asked for entry 0/,
    ],
    [
      "a request for a link",
      (packet) => (isEndOfStats(packet) ? request(3) : undefined),
      /asked for entry 3/,
    ],
    [
      "a request for what is not there",
      (packet) => (isEndOfStats(packet) ? request(9) : undefined),
      /entry 9/,
    ],
    [
      "a file asked for twice",
      (packet) => (isEndOfStats(packet) || isEndOfFile(packet) ? request(1) : undefined),
      /asked for before/,
    ],
    [
      "an end before the last entry",
      (_packet, sent) => (sent.length === 1 ? fin : undefined),
      /said it was done/,
    ],
    ["content", (packet) => (isEndOfStats(packet) ? { type: PacketType.PACKET_DATA } : undefined), /type 2/],
    ["an entry", (packet) => (isEndOfStats(packet) ? { type: PacketType.PACKET_STAT } : undefined), /type 0/],
  ];
  for (const [what, script, text] of cases) {
    test(what, async () => {
      const { result, sent } = sendTo(script);
      await assert.rejects(result, text);
      const last = sent.findLast(({ type }) => type === PacketType.PACKET_ERR);
      assert.match(Buffer.from(last?.data ?? []).toString(), text);
    });
  }
});

test("a receiver that gives up is heard", async () => {
  const { result } = sendTo((packet) =>
    isEndOfStats(packet) ? { type: PacketType.PACKET_ERR, data: Buffer.from("no space") } : undefined,
  );
  await assert.rejects(result, /error from receiver: no space/);
});

test("a receiver that goes away is missed", async () => {
  const { result, close } = sendTo(() => undefined);
  close();
  await assert.rejects(result, /the receiver ended the transfer before it was complete/);
});

test("a file that cannot be read fails the transfer, it does not arrive empty as from BuildKit", async () => {
  const { result, sent } = sendTo((packet) => (isEndOfStats(packet) ? request(2) : undefined));
  await assert.rejects(result, /the disk is broken/);
  assert.equal(sent.findLast(isEndOfFile), undefined);
  assert.match(Buffer.from(sent.at(-1)?.data ?? []).toString(), /the disk is broken/);
});
