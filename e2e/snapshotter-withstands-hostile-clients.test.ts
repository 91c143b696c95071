import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { join, relative } from "node:path";
import { describe, test } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { PrepareSnapshotRequestSchema } from "@oci-worker/api/containerd/snapshots";
import {
  AlreadyExistsError,
  CanceledError,
  DeadlineExceededError,
  InvalidArgumentError,
  NotFoundError,
} from "@oci-worker/errdefs";
import { type SnapshotterPeer, startSnapshotter } from "./peers/snapshotter.ts";

async function withSnapshotter(use: (peer: SnapshotterPeer) => Promise<void>): Promise<void> {
  await using peer = await startSnapshotter("overlayfs");
  await use(peer);
  // Whatever it went through: it goes on, and has logged no error.
  await peer.direct.prepare("still here", undefined, {});
  await peer.direct.remove("still here");
  const errors = peer.log.filter((line) => Number(JSON.parse(line).level) >= 50);
  assert.deepEqual(errors, []);
}

/** Names of everything that a key could have become: the socket's directory, the root, and what it keeps there. */
async function paths({ root }: SnapshotterPeer): Promise<string[]> {
  const directories = [join(root, ".."), root, join(root, "snapshots"), join(root, "spare")];
  const names = await Promise.all(
    directories.map(async (directory) =>
      (await readdir(directory)).map((name) => relative(join(root, ".."), join(directory, name))),
    ),
  );
  return names.flat().sort();
}

describe("keys and labels", () => {
  test("may be of any text without a NUL, up to 64 KiB, and never become part of a path", () =>
    withSnapshotter(async (peer) => {
      const { direct } = peer;
      const keys = [
        "../../etc/x",
        "/etc/passwd",
        "..",
        ".",
        "a b\tc\nd",
        "\u001b[2J",
        "k:'\";--",
        "%s%n",
        "\u{1f600}\u202e",
        "new-1",
        "k".repeat(40_000),
        "\u00e9".repeat(32 * 1024),
      ];
      const before = new Set(await paths(peer));
      for (const [index, key] of keys.entries()) {
        const mounts = await direct.prepare(key, undefined, {});
        assert.match(mounts[0]?.source ?? "", new RegExp(`^${peer.root}/snapshots/\\d+/fs$`));
        await direct.commit(`name ${index}`, key, {});
        await direct.view(key, `name ${index}`, { of: key.slice(0, 1000) });
        assert.equal((await direct.stat(key)).parent, `name ${index}`);
      }
      const listed = (await Array.fromAsync(direct.walk([]))).map(({ name }) => name);
      assert.deepEqual(listed.sort(), keys.flatMap((key, index) => [key, `name ${index}`]).sort());
      const added = (await paths(peer)).filter((path) => !before.has(path));
      assert(added.length > 0);
      for (const path of added) {
        assert.match(path, /^root\/(snapshots\/\d+|spare\/(new-)?\d+|metadata\.db-(wal|shm))$/);
      }
    }));

  test("that cannot be stored are refused by name, and nothing is made", () =>
    withSnapshotter(async ({ direct }) => {
      const tooLong = "k".repeat(64 * 1024 + 1);
      await direct.prepare("active", undefined, {});
      const wrong: [what: string, call: Promise<unknown>, error: RegExp][] = [
        ["an empty key", direct.prepare("", undefined, {}), /the key is empty/],
        ["a NUL", direct.prepare("a\0b", undefined, {}), /the key has a NUL character/],
        ["a long key", direct.view(tooLong, undefined, {}), /the key has 65537 bytes, want at most 65536/],
        ["an empty name", direct.commit("", "active", {}), /the name is empty/],
        ["a NUL in a name", direct.commit("\0", "active", {}), /the name has a NUL/],
        ["a long name", direct.commit(tooLong, "active", {}), /the name has 65537 bytes/],
        ["a large label", direct.prepare("k", undefined, { l: tooLong }), /label "l": it has 65538 bytes/],
        [
          "many labels",
          direct.prepare(
            "k",
            undefined,
            Object.fromEntries(Array.from({ length: 5 }, (_, at) => [`${at}`, "x".repeat(60_000)])),
          ),
          /together they have 300005 bytes, want at most 262144/,
        ],
        ["a label of an update", direct.update("active", { merge: { l: tooLong } }), /label "l"/],
      ];
      for (const [what, call, error] of wrong) {
        await assert.rejects(call, (thrown) => {
          assert(thrown instanceof InvalidArgumentError, `${what}: ${thrown}`);
          assert.match(thrown.message, error, what);
          assert(thrown.message.length < 1000, what);
          return true;
        });
      }
      for (const key of ["", "\0", tooLong]) {
        await assert.rejects(direct.stat(key), NotFoundError);
        await assert.rejects(direct.mounts(key), NotFoundError);
        await assert.rejects(direct.usage(key), NotFoundError);
        await assert.rejects(direct.remove(key), NotFoundError);
        await assert.rejects(direct.update(key, { merge: {} }), NotFoundError);
      }
      const { name, kind, labels } = await direct.stat("active");
      assert.deepEqual([name, kind, labels], ["active", "active", {}]);
      assert.equal((await Array.fromAsync(direct.walk([]))).length, 1);
    }));

  test("may be larger than containerd's 4096 bytes, and come back as they were", () =>
    withSnapshotter(async ({ direct }) => {
      const labels = {
        small: "1",
        [`long/${"k".repeat(5000)}`]: "v".repeat(50_000),
        "": "empty name",
        __proto__x: "\0",
      };
      await direct.prepare("labelled", undefined, labels);
      assert.deepEqual((await direct.stat("labelled")).labels, labels);
      const [listed] = await Array.fromAsync(direct.walk(["labels.small==1"]));
      assert.deepEqual(listed?.labels, labels);
    }));
});

/** A client that says what it likes. */
class RawClient implements Disposable {
  readonly session: ClientHttp2Session;

  private constructor(session: ClientHttp2Session) {
    this.session = session;
  }

  static async open(address: string): Promise<RawClient> {
    // Node's own limit of 10 MiB would end calls that are larger on this side.
    const options = { createConnection: () => connect(address), maxSessionMemory: 512 };
    const session = connectHttp2("http://localhost", options);
    session.on("error", () => undefined);
    await once(session, "connect");
    return new RawClient(session);
  }

  [Symbol.dispose](): void {
    this.session.destroy();
  }

  begin(method: string, headers: Record<string, string> = {}) {
    const stream = this.session.request({
      ":method": "POST",
      ":path": `/containerd.services.snapshots.v1.Snapshots/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    stream.on("error", () => undefined);
    stream.resume();
    return stream;
  }

  /** Sends `body` as the whole of a call, and gives its status. */
  async call(method: string, body: Buffer, headers: Record<string, string> = {}): Promise<string> {
    const stream = this.begin(method, headers);
    let status = "none";
    const note = (got: Record<string, unknown>) => {
      status = String(got["grpc-status"] ?? status);
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.end(body);
    await once(stream, "close");
    return status;
  }
}

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function prepareMessage(request: MessageInitShape<typeof PrepareSnapshotRequestSchema>): Buffer {
  return framed(toBinary(PrepareSnapshotRequestSchema, create(PrepareSnapshotRequestSchema, request)));
}

const [deadlineExceeded, invalidArgument, resourceExhausted] = ["4", "3", "8"];

describe("bytes on the socket", () => {
  test("that are no HTTP/2, or half of it, concern nobody else", () =>
    withSnapshotter(async ({ address, direct }) => {
      const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      const nonsense = [
        randomBytes(10_000),
        Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        preface.subarray(0, 10),
        Buffer.concat([preface, randomBytes(10_000)]),
        // A SETTINGS frame that says it has 16 MiB.
        Buffer.concat([preface, Buffer.from([0xff, 0xff, 0xff, 0x04, 0, 0, 0, 0, 0])]),
      ];
      const open = nonsense.map((bytes) => {
        const socket = connect(address);
        socket.on("error", () => undefined);
        socket.resume();
        socket.write(bytes);
        return socket;
      });
      // Half open: one that says nothing, and one that has said all and does not go.
      open.push(connect(address), connect({ path: address, allowHalfOpen: true }).end());
      await Promise.all(open.map((socket) => (socket.connecting ? once(socket, "connect") : undefined)));
      await direct.prepare("meanwhile", undefined, {});
      assert.equal((await direct.stat("meanwhile")).kind, "active");
      for (const socket of open) {
        socket.destroy();
      }
    }));

  test("that are no protobuf, no frame or too large are refused, and nothing is made", () =>
    withSnapshotter(async ({ address, direct }) => {
      using client = await RawClient.open(address);
      const good = prepareMessage({ key: "good" });
      const truncated = Buffer.from(good);
      truncated.writeUInt32BE(good.length, 1);
      for (const [body, status] of [
        [framed(Buffer.from([0x12, 0xff])), invalidArgument],
        [framed(Buffer.from([0x12, 0x02, 0xc3, 0x28])), invalidArgument],
        [framed(randomBytes(1000).fill(0xff, 0, 20)), invalidArgument],
        [truncated, invalidArgument],
        [Buffer.alloc(0), invalidArgument],
        [good.subarray(0, 3), invalidArgument],
        [Buffer.concat([good, good]), invalidArgument],
        [prepareMessage({ key: "large", labels: { l: "x".repeat(17 * 1024 * 1024) } }), resourceExhausted],
      ] as const) {
        assert.equal(await client.call("Prepare", body), status);
      }
      assert.deepEqual(await Array.fromAsync(direct.walk([])), []);
      assert.equal(await client.call("Prepare", good), "0");
    }));
});

describe("clients that go away", () => {
  test("in the midst of a call leave a snapshot whole or not at all, and its key usable", () =>
    withSnapshotter(async ({ address, direct, root }) => {
      await direct.prepare("filling", undefined, {});
      await direct.commit("base", "filling", {});
      const keys = Array.from({ length: 200 }, (_, index) => `key ${index}`);
      for (const [index, key] of keys.entries()) {
        const client = await RawClient.open(address);
        const stream = client.begin("Prepare", { "grpc-timeout": "10S" });
        stream.end(prepareMessage({ key, parent: "base" }));
        if (index % 3 === 0) {
          stream.close(constants.NGHTTP2_CANCEL);
          await once(stream, "close");
        } else if (index % 3 === 1) {
          await once(stream, "finish");
        }
        client[Symbol.dispose]();
      }
      for (const key of keys) {
        const isThere = await direct.prepare(key, "base", {}).then(
          () => false,
          (error) => error instanceof AlreadyExistsError,
        );
        const mounts = await direct.mounts(key);
        assert.deepEqual(mounts, await direct.mounts(key), `${isThere}`);
        await direct.commit(`${key} done`, key, {});
        await direct.remove(`${key} done`);
      }
      await direct.cleanup();
      assert.equal((await readdir(join(root, "snapshots"))).length, 1);
    }));

  test("by a deadline are told so, and what they asked for is done or not", () =>
    withSnapshotter(async ({ address, direct, root }) => {
      using client = await RawClient.open(address);
      const keys = Array.from({ length: 100 }, (_, index) => `key ${index}`);
      const statuses = await Promise.all(
        keys.map((key, index) =>
          client.call("Prepare", prepareMessage({ key }), { "grpc-timeout": `${index * 100}u` }),
        ),
      );
      assert(statuses.includes(deadlineExceeded ?? ""), statuses.join());
      for (const [index, key] of keys.entries()) {
        if (statuses[index] === "0") {
          assert.equal((await direct.stat(key)).kind, "active");
        } else {
          assert.equal(statuses[index], deadlineExceeded);
          await direct.remove(key).catch((error) => assert(error instanceof NotFoundError));
          await direct.prepare(key, undefined, {});
        }
      }
      await direct.cleanup();
      assert.equal((await readdir(join(root, "snapshots"))).length, keys.length);
    }));

  test("by their own signal are told what they asked for", () =>
    withSnapshotter(async ({ direct }) => {
      const abort = new AbortController();
      const calls = Array.from({ length: 50 }, (_, index) =>
        direct.prepare(`key ${index}`, undefined, {}, abort.signal),
      );
      abort.abort();
      for (const outcome of await Promise.allSettled(calls)) {
        assert(
          outcome.status === "fulfilled" ||
            outcome.reason instanceof CanceledError ||
            outcome.reason instanceof DeadlineExceededError,
        );
      }
      for (let index = 0; index < 50; index += 1) {
        await direct.remove(`key ${index}`).catch((error) => assert(error instanceof NotFoundError));
      }
      assert.deepEqual(await Array.fromAsync(direct.walk([])), []);
    }));
});
