import assert from "node:assert/strict";
import { chmod, mkdtempDisposable, stat } from "node:fs/promises";
import { connect } from "node:http2";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { Kind, Snapshots } from "@oci-worker/api/containerd/snapshots";
import { Health, HealthCheckResponse_ServingStatus } from "@oci-worker/api/grpc/health";
import { AlreadyExistsError, UnimplementedError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { pino } from "pino";
import { serveSnapshotter } from "./server.ts";

const info: Info = {
  name: "name",
  parent: undefined,
  kind: "committed",
  labels: { "containerd.io/x": "1" },
  createdAtNs: 1_000_000_001n,
  updatedAtNs: 2_000_000_000n,
};

const unexpected = () => Promise.reject(new Error("this test does not call that"));

function fakeSnapshotter(methods: Partial<Snapshotter>): Snapshotter {
  return {
    stat: unexpected,
    update: unexpected,
    usage: unexpected,
    mounts: unexpected,
    prepare: unexpected,
    view: unexpected,
    commit: unexpected,
    remove: unexpected,
    walk: () => {
      throw new Error("this test does not walk");
    },
    pages: () => {
      throw new Error("this test does not walk");
    },
    cleanup: unexpected,
    [Symbol.asyncDispose]: async () => undefined,
    ...methods,
  };
}

async function withServer(
  methods: Partial<Snapshotter>,
  use: (client: Client<typeof Snapshots>, address: string) => Promise<void>,
): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "snapshotter-server-"));
  const address = join(directory.path, "run", "s.sock");
  const log = pino({ level: "silent" });
  await using _server = await serveSnapshotter(
    { address, drainTimeoutMs: 1000 },
    fakeSnapshotter(methods),
    log,
  );
  using channel = unixChannel(address);
  await use(createClient(Snapshots, channel), address);
}

async function rejectsWith(call: Promise<unknown>, code: Code, message: string): Promise<void> {
  await assert.rejects(call, (error) => {
    assert(error instanceof ConnectError);
    assert.deepEqual([Code[error.code], error.rawMessage], [Code[code], message]);
    return true;
  });
}

describe("serveSnapshotter", () => {
  test("lets only owner and group connect, and others not look around", () =>
    withServer({}, async (_client, address) => {
      assert.equal((await stat(address)).mode & 0o777, 0o660);
      assert.equal((await stat(join(address, ".."))).mode & 0o777, 0o711);
    }));

  test("passes on what a request says, an empty parent as none", () => {
    const seen: unknown[][] = [];
    const mounts = [{ type: "bind", source: "/s", options: ["rw", "rbind"] }];
    const methods: Partial<Snapshotter> = {
      prepare: async (key, parent, labels) => {
        seen.push(["prepare", key, parent, labels]);
        return mounts;
      },
      view: async (key, parent, labels) => {
        seen.push(["view", key, parent, labels]);
        return mounts;
      },
      commit: async (name, key, labels, parent) => {
        seen.push(["commit", name, key, labels, parent]);
      },
      update: async (key, change) => {
        seen.push(["update", key, change]);
        return info;
      },
    };
    return withServer(methods, async (client) => {
      const prepared = await client.prepare({ key: "k", labels: { a: "1" } });
      assert.deepEqual(
        prepared.mounts.map(({ type, source, target, options }) => [type, source, target, options]),
        [["bind", "/s", "", ["rw", "rbind"]]],
      );
      await client.view({ key: "k", parent: "p" });
      await client.commit({ name: "n", key: "k", parent: "p" });
      await client.update({ info: { name: "k", parent: "ignored", kind: Kind.VIEW, labels: { a: "1" } } });
      await client.update({
        info: { name: "k", labels: { a: "1" } },
        updateMask: { paths: ["labels.a", "labels.b"] },
      });
      assert.deepEqual(seen, [
        ["prepare", "k", undefined, { a: "1" }],
        ["view", "k", "p", {}],
        ["commit", "n", "k", {}, "p"],
        ["update", "k", { replace: { a: "1" } }],
        ["update", "k", { merge: { a: "1", b: "" } }],
      ]);
    });
  });

  test("tells of a snapshot all that is known of it", () =>
    withServer({ stat: async () => info }, async (client) => {
      const { info: sent } = await client.stat({ key: "name" });
      assert.deepEqual(
        [sent?.name, sent?.parent, sent?.kind, sent?.labels],
        ["name", "", Kind.COMMITTED, info.labels],
      );
      assert.deepEqual([sent?.createdAt?.seconds, sent?.createdAt?.nanos], [1n, 1]);
      assert.deepEqual([sent?.updatedAt?.seconds, sent?.updatedAt?.nanos], [2n, 0]);
    }));

  test("answers errors with their code and their text, of streams too", () => {
    async function* failing(): AsyncGenerator<Info[]> {
      yield [info];
      throw new UnimplementedError("Cannot walk on");
    }
    const taken = new AlreadyExistsError('Cannot prepare "k": already exists');
    return withServer({ prepare: () => Promise.reject(taken), pages: failing }, async (client) => {
      await rejectsWith(client.prepare({ key: "k" }), Code.AlreadyExists, taken.message);
      await rejectsWith(Array.fromAsync(client.list({})), Code.Unimplemented, "Cannot walk on");
      await rejectsWith(client.stat({ key: "k" }), Code.Internal, "internal error");
    });
  });

  test("refuses an update of anything but labels, before it does anything", () =>
    withServer({}, async (client) => {
      const update = client.update({ info: { name: "k" }, updateMask: { paths: ["labels.a", "parent"] } });
      const message = 'Cannot update field "parent": only labels can change, want "labels" or "labels.KEY"';
      await rejectsWith(update, Code.InvalidArgument, message);
    }));

  test("sends nothing for a walk that finds nothing", () =>
    withServer({ pages: async function* () {} }, async (client) => {
      assert.deepEqual(await Array.fromAsync(client.list({ filters: ["kind==view"] })), []);
    }));

  test("ends a walk whose reader has gone", async () => {
    const ended = Promise.withResolvers<void>();
    async function* endless(): AsyncGenerator<Info[]> {
      try {
        for (;;) {
          yield [info];
        }
      } finally {
        ended.resolve();
      }
    }
    await withServer({ pages: endless }, async (_client, address) => {
      await using snapshotter = openProxy(address, { snapshotter: "test" });
      for await (const each of snapshotter.walk([])) {
        assert.deepEqual(each, info);
        break;
      }
      await ended.promise;
    });
  });

  test("tells the snapshotter when the caller of a prepare gives up", async () => {
    const aborted = Promise.withResolvers<void>();
    const prepare: Snapshotter["prepare"] = (_key, _parent, _labels, signal) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener("abort", () => {
          aborted.resolve();
          reject(signal.reason);
        });
      });
    await withServer({ prepare }, async (client) => {
      await rejectsWith(
        client.prepare({ key: "k" }, { timeoutMs: 20 }),
        Code.DeadlineExceeded,
        "the deadline of the call has passed",
      );
      await aborted.promise;
    });
  });

  test("answers health checks for itself and its service", () =>
    withServer({}, async (_client, address) => {
      using channel = unixChannel(address);
      const health = createClient(Health, channel);
      for (const service of ["", "containerd.services.snapshots.v1.Snapshots"]) {
        assert.equal((await health.check({ service })).status, HealthCheckResponse_ServingStatus.SERVING);
      }
      await rejectsWith(
        health.check({ service: "other" }),
        Code.NotFound,
        'Cannot check "other": this server has no such service',
      );
    }));

  test("takes any authority, such as the socket path that some clients send", () =>
    withServer({ stat: async () => info }, async (_client, address) => {
      const session = connect("http://localhost", { createConnection: () => createConnection(address) });
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      try {
        session.on("error", reject);
        const stream = session.request({
          ":method": "POST",
          ":authority": "%2Frun%2Fs.sock",
          ":path": "/containerd.services.snapshots.v1.Snapshots/Stat",
          "content-type": "application/grpc",
          te: "trailers",
        });
        stream.on("trailers", (trailers) => resolve(trailers["grpc-status"]));
        stream.on("error", reject);
        stream.resume();
        stream.end(Buffer.alloc(5));
        assert.equal(await promise, "0");
      } finally {
        session.destroy();
      }
    }));

  test("does not change a directory for its socket that is there", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "snapshotter-server-"));
    await chmod(directory.path, 0o750);
    const config = { address: join(directory.path, "s.sock"), drainTimeoutMs: 1000 };
    await using _server = await serveSnapshotter(config, fakeSnapshotter({}), pino({ level: "silent" }));
    assert.equal((await stat(directory.path)).mode & 0o777, 0o750);
  });
});
