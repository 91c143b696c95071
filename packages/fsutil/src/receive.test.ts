import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readlink, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Packet,
  PacketSchema,
  Packet_PacketType as PacketType,
  type StatSchema,
} from "@oci-worker/api/session/fsutil";
import { ServiceError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { goMode } from "./mode.ts";
import type { PacketInit } from "./packet-stream.ts";
import { type ReceiveOptions, receiveTree } from "./receive.ts";

type StatInit = MessageInitShape<typeof StatSchema>;

/** Plays the packets of a sender to a receiver in `directory`; what the receiver sends is collected. */
function receive(directory: string, script: readonly PacketInit[], options: Partial<ReceiveOptions> = {}) {
  const sent: Packet[] = [];
  const packets = script.map((init) => create(PacketSchema, init)).values();
  const stream = {
    incoming: { next: () => Promise.resolve(packets.next()) },
    send: (init: PacketInit) => {
      sent.push(create(PacketSchema, init));
      return Promise.resolve();
    },
  };
  const result = receiveTree(stream, directory, { owner: "self", ...options });
  return { result, sent };
}

const stat = (init: StatInit): PacketInit => ({ type: PacketType.PACKET_STAT, stat: init });
const file = (path: string, more: StatInit = {}) => stat({ path, mode: goMode("file", 0o644), ...more });
const dir = (path: string) => stat({ path, mode: goMode("directory", 0o755) });
const link = (path: string, linkname: string) => stat({ path, linkname, mode: goMode("symlink", 0o777) });
const data = (ID: number, text: string): PacketInit => ({
  type: PacketType.PACKET_DATA,
  ID,
  data: Buffer.from(text),
});
const endOfStats: PacketInit = { type: PacketType.PACKET_STAT };
const fin: PacketInit = { type: PacketType.PACKET_FIN };

test("a good sender's files arrive", async () => {
  await using place = await mkdtempDisposable(join(tmpdir(), "receive-"));
  const script = [dir("d"), file("d/f"), endOfStats, data(1, "ab"), data(1, ""), fin];
  const { result, sent } = receive(place.path, script);
  assert.deepEqual(await result, { entries: 2, contentBytes: 2, skippedXattrs: [] });
  assert.deepEqual(
    sent.map(({ type, ID }) => [type, ID]),
    [
      [PacketType.PACKET_REQ, 1],
      [PacketType.PACKET_FIN, 0],
    ],
  );
});

describe("a hostile sender is refused, told so, and leaves nothing behind:", () => {
  const long = "x".repeat(256);
  const cases: [what: string, script: PacketInit[], text: RegExp, options?: Partial<ReceiveOptions>][] = [
    ["an absolute path", [file("/etc/passwd")], /not clean and relative/],
    ["a path that climbs", [file("../x")], /not clean and relative/],
    ["a path that climbs inside", [dir("a"), file("a/../../x")], /not clean and relative/],
    ["a path with a dot", [file("./x")], /not clean and relative/],
    ["an empty path", [file("")], /not clean and relative/],
    ["a path with a double slash", [dir("a"), file("a//x")], /not clean and relative/],
    ["a path that ends in a slash", [dir("a/")], /not clean and relative/],
    ["a path with a NUL", [file("a\0b")], /not clean and relative/],
    ["a name that is too long", [file(long)], /too long/],
    [
      "a path that is too long",
      [file(Array.from({ length: 30 }, () => "y".repeat(200)).join("/"))],
      /too long/,
    ],
    ["an entry twice", [file("a"), file("a")], /out of order/],
    ["entries out of order", [file("b"), file("a")], /out of order/],
    ["a directory gone back to", [dir("a"), file("a-b"), file("a/x")], /out of order/],
    ["an entry without its directory", [file("a/x")], /no directory came before it/],
    ["an entry in a file", [file("a"), file("a/x")], /no directory came before it/],
    ["an entry in a symbolic link", [link("a", "/etc"), file("a/x")], /no directory came before it/],
    ["a link to what was not sent", [file("a", { linkname: "b" })], /link to "b", which is no file/],
    ["a link to a directory", [dir("a"), file("b", { linkname: "a" })], /link to "a", which is no file/],
    [
      "a link to a symbolic link",
      [link("a", "/etc/passwd"), file("b", { linkname: "a" })],
      /which is no file/,
    ],
    ["a link out of the tree", [file("a"), file("b", { linkname: "../a" })], /which is no file/],
    ["a symbolic link to nothing", [link("a", "")], /symbolic link to nothing/],
    ["a symbolic link that is too long", [link("a", "z".repeat(4096))], /symbolic link to nothing/],
    ["a socket", [stat({ path: "a", mode: 0x0100_0000 })], /no type that can be transferred/],
    ["a directory that is a link, too", [stat({ path: "a", mode: 0x8800_0000 })], /no type that can be/],
    [
      "a device that does not exist",
      [stat({ path: "a", mode: goMode("block-device", 0o600), devmajor: 1n << 40n })],
      /device number/,
    ],
    [
      "a negative device",
      [stat({ path: "a", mode: goMode("block-device", 0o600), devminor: -1n })],
      /device number/,
    ],
    ["too many entries", [file("a"), file("b"), file("c")], /at most 2 entries/, { maxEntries: 2 }],
    ["an entry after the last", [file("a"), endOfStats, file("b")], /after the last one/],
    ["a second end of entries", [file("a"), endOfStats, endOfStats], /after the last one/],
    ["content that was not asked for", [dir("a"), data(0, "x")], /content came for entry 0/],
    ["content of an entry that is not there", [file("a"), data(7, "x")], /content came for entry 7/],
    ["content after its end", [file("a"), data(0, ""), data(0, "x")], /content came for entry 0/],
    ["the end of content that was not asked for", [dir("a"), data(0, "")], /content came for entry 0/],
    ["an end before everything is there", [file("a"), endOfStats, fin], /before we had everything/],
    ["an end before the last entry", [fin], /before we had everything/],
    ["a request", [{ type: PacketType.PACKET_REQ }], /packet of type 1/],
    ["a packet of no known type", [{ type: 9 as PacketType }], /packet of type 9/],
    ["silence", [file("a"), data(0, "x")], /ended the transfer before it was complete/],
    [
      "an error of its own",
      [file("a"), { type: PacketType.PACKET_ERR, data: Buffer.from("no more disk") }],
      /error from sender: no more disk/,
    ],
  ];
  for (const [what, script, text, options] of cases) {
    test(what, async () => {
      await using place = await mkdtempDisposable(join(tmpdir(), "receive-"));
      const { result, sent } = receive(place.path, script, options);
      await assert.rejects(result, text);
      const last = sent.at(-1);
      assert.equal(last?.type, PacketType.PACKET_ERR);
      assert.match(Buffer.from(last?.data ?? []).toString(), text);
      assert.deepEqual(await readdir(place.path), []);
    });
  }
});

test("a link that was there before is not a directory to write through", async () => {
  await using place = await mkdtempDisposable(join(tmpdir(), "receive-"));
  await using outside = await mkdtempDisposable(join(tmpdir(), "outside-"));
  await symlink(outside.path, join(place.path, "a"));
  const script = [dir("a"), file("a/f"), endOfStats, data(1, "x"), data(1, ""), fin];
  await receive(place.path, script).result;
  assert.deepEqual(await readdir(outside.path), []);
  assert.deepEqual(await readdir(join(place.path, "a")), ["f"]);
});

test("a failed transfer keeps what was there before, and who writes meanwhile loses nothing", async () => {
  await using place = await mkdtempDisposable(join(tmpdir(), "receive-"));
  await symlink("old", join(place.path, "link"));
  const writes = () => writeFile(join(place.path, "made/theirs"), "");
  const packets = [dir("made"), file("made/ours"), file("made/p"), data(1, "x"), data(1, "")];
  let step = 0;
  const stream = {
    incoming: {
      next: async () => {
        const packet = packets[step];
        step += 1;
        if (packet === undefined) {
          await writes();
          return { done: true as const, value: undefined };
        }
        return { done: false as const, value: create(PacketSchema, packet) };
      },
    },
    send: () => Promise.resolve(),
  };
  await assert.rejects(receiveTree(stream, place.path, { owner: "self" }), /before it was complete/);
  assert.deepEqual((await readdir(place.path)).sort(), ["link", "made"]);
  assert.deepEqual(await readdir(join(place.path, "made")), ["theirs"]);
  assert.equal(await readlink(join(place.path, "link")), "old");
});

test("whatever packets come, the answer is a tree or a ServiceError, and nothing appears outside", async () => {
  await using place = await mkdtempDisposable(join(tmpdir(), "receive-"));
  const name = fc.constantFrom("a", "a/b", "a/b/c", "..", "../x", "b", "", "/", "a-", "c");
  const packet = fc.record({
    type: fc.constantFrom(0, 0, 0, 1, 2, 2, 3, 4),
    ID: fc.nat(4),
    data: fc.uint8Array({ maxLength: 3 }),
    stat: fc.option(
      fc.record({
        path: name,
        linkname: fc.constantFrom("", "", "a", "../../x", "/etc"),
        mode: fc.constantFrom(
          0o644,
          goMode("directory", 0o700),
          goMode("symlink", 0o777),
          goMode("fifo", 0o600),
        ),
      }),
      { nil: undefined, freq: 5 },
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(packet, { maxLength: 12 }), async (packets) => {
      const script = packets.map(({ stat: entry, ...rest }) => ({ ...rest, ...(entry && { stat: entry }) }));
      const { result } = receive(join(place.path, "in/to"), script);
      await result.catch((error: unknown) => assert(error instanceof ServiceError, String(error)));
      assert.deepEqual(await readdir(place.path), ["in"]);
      assert.deepEqual(await readdir(join(place.path, "in")), ["to"]);
    }),
    { numRuns: 500 },
  );
});
