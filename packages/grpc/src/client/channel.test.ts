import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Echo } from "../echo/service.ts";
import { echoing, serving, texts, valuesOf } from "../echo/serving.ts";
import { implement } from "../server/router.ts";
import { serve } from "../server/serve.ts";
import { tcpChannel, unixChannel } from "./channel.ts";

const { IDEMPOTENT, NO_SIDE_EFFECTS } = MethodOptions_IdempotencyLevel;

async function listening<S extends Server | Http2Server>(
  server: S,
  path: string,
): Promise<S & AsyncDisposable> {
  server.listen(path);
  await once(server, "listening");
  return Object.assign(server, {
    [Symbol.asyncDispose]: async () => {
      server.close();
    },
  });
}

/** A server that answers each stream as it is told, whatever was asked. */
async function answering(path: string, answer: (stream: ServerHttp2Stream) => void) {
  const server = createHttp2Server();
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => undefined);
    answer(stream);
  });
  return await listening(server, path);
}

describe("a channel", () => {
  test("speaks each kind of method with connect-node", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "s.sock");
    const adapter = connectNodeAdapter({ routes: (router) => router.service(Echo, echoing) });
    await using _server = await listening(createHttp2Server(adapter), path);
    using channel = unixChannel(path);
    const echo = createClient(Echo, channel);
    assert.equal((await echo.one({ value: "a" })).value, "a!");
    assert.deepEqual(await valuesOf(echo.count({ value: "3" })), ["1", "2", "3"]);
    assert.equal((await echo.join(texts("a", "b"))).value, "a+b");
    assert.deepEqual(await valuesOf(echo.talk(texts("x", "y"))), ["X", "Y"]);
  });

  test("takes its path with and without unix://", async () => {
    await using server = await serving();
    using channel = unixChannel(`unix://${server.path}`);
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
  });

  test("reaches a server in the network, and tells it what it was called", async () => {
    const server = createHttp2Server();
    const adapter = connectNodeAdapter({ routes: (router) => router.service(Echo, echoing) });
    let authority: string | undefined;
    server.on("request", (request, response) => {
      authority = request.authority;
      adapter(request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    using channel = tcpChannel({ host: "127.0.0.1", port });
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
    assert.equal(authority, `127.0.0.1:${port}`);
    server.close();
  });

  test("fails at once and names the socket when nobody serves it", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "absent.sock");
    using channel = unixChannel(path);
    for (const attempt of [1, 2, 3]) {
      await assert.rejects(createClient(Echo, channel).one({}), (error) => {
        assert(error instanceof ConnectError, `attempt ${attempt}`);
        assert.equal(error.code, Code.Unavailable);
        assert.match(error.rawMessage, /^Cannot reach .*absent\.sock: connect ENOENT/);
        return true;
      });
    }
  });

  test("reaches a server that has restarted", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "s.sock");
    const start = () =>
      serve({ addresses: [{ path, mode: 0o600 }], implementations: [implement(Echo, echoing)] });
    using channel = unixChannel(path, { patienceMs: 30_000 });
    const echo = createClient(Echo, channel);
    for (const round of ["1", "2", "3"]) {
      await using _server = await start();
      assert.equal((await echo.one({ value: round })).value, `${round}!`);
    }
  });

  test("waits for a server that comes late, as long as it was told to", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "late.sock");
    using channel = unixChannel(path, { patienceMs: 30_000 });
    const early = createClient(Echo, channel).one({ value: "early" });
    using impatient = unixChannel(path, { patienceMs: 120 });
    await assert.rejects(createClient(Echo, impatient).one({}), { code: Code.Unavailable });
    await using _server = await serve({
      addresses: [{ path, mode: 0o600 }],
      implementations: [implement(Echo, echoing)],
    });
    assert.equal((await early).value, "early!");
  });

  test("stops waiting for a server when the caller does", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    using channel = unixChannel(join(directory.path, "never.sock"), { patienceMs: 60_000 });
    const echo = createClient(Echo, channel);
    const controller = new AbortController();
    const aborted = assert.rejects(echo.one({}, { signal: controller.signal }), { code: Code.Canceled });
    controller.abort();
    await aborted;
    await assert.rejects(echo.one({}, { timeoutMs: 50 }), (error) => {
      assert(error instanceof ConnectError);
      return error.code === Code.Unavailable || error.code === Code.DeadlineExceeded;
    });
  });

  test("ends the calls that wait for a server when it is closed", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const channel = unixChannel(join(directory.path, "never.sock"), { patienceMs: 60_000 });
    const waiting = assert.rejects(createClient(Echo, channel).one({}), /the channel is closed/);
    channel[Symbol.dispose]();
    await waiting;
  });

  test("ends at the deadline although the peer never answers", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "mute.sock");
    const sockets: Socket[] = [];
    await using _server = await listening(
      createServer((socket) => {
        sockets.push(socket);
        socket.on("error", () => undefined);
      }),
      path,
    );
    using channel = unixChannel(path);
    await assert.rejects(createClient(Echo, channel).one({}, { timeoutMs: 100 }), {
      code: Code.DeadlineExceeded,
    });
    for (const socket of sockets) {
      socket.destroy();
    }
  });

  test("ends open calls with Unavailable when the connection is lost", async () => {
    const started = Promise.withResolvers<void>();
    await using server = await serving(
      {
        one: () => {
          started.resolve();
          return new Promise(() => undefined);
        },
      },
      { drainTimeoutMs: 1 },
    );
    using channel = unixChannel(server.path);
    const call = assert.rejects(createClient(Echo, channel).one({}), { code: Code.Unavailable });
    await started.promise;
    await server.server[Symbol.asyncDispose]();
    await call;
  });

  test("sends a unary call again whose connection was lost, if doing it twice is the same as once", async () => {
    for (const idempotency of [undefined, IDEMPOTENT, NO_SIDE_EFFECTS]) {
      await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
      const path = join(directory.path, "s.sock");
      let calls = 0;
      await using _server = await answering(path, (stream) => {
        calls += 1;
        if (calls === 1) {
          stream.session?.destroy();
          return;
        }
        stream.respond({ ":status": 200, "grpc-status": "12", "grpc-message": "seen" }, { endStream: true });
      });
      using channel = unixChannel(path);
      const method = { ...Echo.method.one, ...(idempotency && { idempotency }) };
      const want = idempotency === undefined ? Code.Unavailable : Code.Unimplemented;
      await assert.rejects(channel.unary(method, undefined, undefined, undefined, {}), { code: want });
      assert.equal(calls, idempotency === undefined ? 1 : 2);
    }
  });

  test("sends a unary call again that the server has refused unseen", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "s.sock");
    let refusals = 0;
    const echo = createHttp2Server();
    const adapter = connectNodeAdapter({ routes: (router) => router.service(Echo, echoing) });
    echo.on("stream", (stream) => {
      if (refusals < 2) {
        refusals += 1;
        stream.on("error", () => undefined);
        stream.close(0x7);
      }
    });
    echo.on("request", (request, response) => {
      if (!request.stream.closed) {
        adapter(request, response);
      }
    });
    await using _server = await listening(echo, path);
    using channel = unixChannel(path);
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
    assert.equal(refusals, 2);
  });

  test("maps answers that are no gRPC to a status", async () => {
    const cases = [
      { name: "HTTP 404", headers: { ":status": 404 }, code: Code.Unimplemented },
      { name: "HTTP 401", headers: { ":status": 401 }, code: Code.Unauthenticated },
      { name: "HTTP 503", headers: { ":status": 503 }, code: Code.Unavailable },
      { name: "no status", headers: { ":status": 200 }, code: Code.Internal },
      { name: "unknown status", headers: { ":status": 200, "grpc-status": "99" }, code: Code.Unknown },
      { name: "no message", headers: { ":status": 200, "grpc-status": "0" }, code: Code.Unimplemented },
    ];
    for (const { name, headers, code } of cases) {
      await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
      const path = join(directory.path, "s.sock");
      await using _server = await answering(path, (stream) => stream.respond(headers, { endStream: true }));
      using channel = unixChannel(path);
      await assert.rejects(createClient(Echo, channel).one({}), { code }, name);
    }
  });

  test("refuses an answer over its limit before it has been received", async () => {
    await using server = await serving({ one: () => ({ value: "x".repeat(100_000) }) });
    using channel = unixChannel(server.path, { maxMessageBytes: 50_000 });
    await assert.rejects(createClient(Echo, channel).one({}), { code: Code.ResourceExhausted });
  });

  test("holds a fast sender back while the handler does not read", async () => {
    const go = Promise.withResolvers<void>();
    await using server = await serving({
      async join(requests) {
        await go.promise;
        return { value: String((await valuesOf(requests)).length) };
      },
    });
    using channel = unixChannel(server.path);
    let sent = 0;
    const stuck = Promise.withResolvers<void>();
    async function* many() {
      for (; sent < 2000; sent += 1) {
        const turn = sent;
        // No progress for this long after hundreds of fast sends means that flow control holds the sender.
        const timer = setTimeout(() => turn === sent && stuck.resolve(), 200);
        yield { value: "x".repeat(64 * 1024) };
        clearTimeout(timer);
      }
    }
    const answer = createClient(Echo, channel).join(many());
    await stuck.promise;
    assert(sent < 1000, `${sent} messages of 64 KiB went out unread`);
    go.resolve();
    assert.equal((await answer).value, "2000");
  });

  test("ends the source of a stream whose call has ended", async () => {
    await using server = await serving({
      // biome-ignore lint/correctness/useYield: a generator that fails before its first message is the case here
      async *talk() {
        throw new ConnectError("no", Code.Aborted);
      },
    });
    using channel = unixChannel(server.path);
    const ended = Promise.withResolvers<void>();
    async function* endless() {
      try {
        for (;;) {
          yield { value: "more" };
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        ended.resolve();
      }
    }
    await assert.rejects(valuesOf(createClient(Echo, channel).talk(endless())), { code: Code.Aborted });
    await ended.promise;
  });

  test("takes a call back whose reader leaves early", async () => {
    const aborted = Promise.withResolvers<void>();
    await using server = await serving({
      async *count(_request, { signal }) {
        signal.addEventListener("abort", () => aborted.resolve());
        for (;;) {
          yield { value: "more" };
          await new Promise((resolve) => setImmediate(resolve));
        }
      },
    });
    using channel = unixChannel(server.path);
    // Not through createClient, whose iterables do not pass on that their reader has left.
    const response = await channel.stream(Echo.method.count, undefined, undefined, undefined, texts(""));
    for await (const { value } of response.message) {
      assert.equal(value, "more");
      break;
    }
    await aborted.promise;
  });
});
