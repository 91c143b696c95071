import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, stat } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { unixChannel } from "../client/channel.ts";
import { Echo } from "../echo/service.ts";
import { echoing, serving, texts, valuesOf } from "../echo/serving.ts";
import { metadataValues, sendHeaders } from "./call.ts";
import { implement } from "./router.ts";
import { serve } from "./serve.ts";

/** connect-node shares no code with our adapter, so the two together show that both speak gRPC. */
function connectNode(path: string): Transport & Disposable {
  const sockets = new Set<{ destroy(): void }>();
  const transport = createGrpcTransport({
    baseUrl: "http://localhost",
    nodeOptions: {
      createConnection: () => {
        const socket = connect(path);
        sockets.add(socket);
        return socket;
      },
    },
  });
  return {
    unary: transport.unary.bind(transport),
    stream: transport.stream.bind(transport),
    [Symbol.dispose]: () => {
      for (const socket of sockets) {
        socket.destroy();
      }
    },
  };
}

const clients = [
  { client: "our client", open: (path: string): Transport & Disposable => unixChannel(path) },
  { client: "connect-node", open: connectNode },
];

for (const { client, open } of clients) {
  describe(`a server called by ${client}`, () => {
    test("answers each kind of method", async () => {
      await using server = await serving(echoing);
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      assert.equal((await echo.one({ value: "a" })).value, "a!");
      assert.deepEqual(await valuesOf(echo.count({ value: "3" })), ["1", "2", "3"]);
      assert.equal((await echo.join(texts("a", "b", "c"))).value, "a+b+c");
      assert.deepEqual(await valuesOf(echo.talk(texts("x", "y"))), ["X", "Y"]);
    });

    test("delivers messages without content, and streams without messages", async () => {
      await using server = await serving(echoing);
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      assert.equal((await echo.join(texts("", ""))).value, "+");
      assert.deepEqual(await valuesOf(echo.count({ value: "0" })), []);
      assert.deepEqual(await valuesOf(echo.talk(texts())), []);
    });

    test("tells the code and text of every error that a handler throws", async () => {
      await using server = await serving({
        one: ({ value }) => {
          throw new ConnectError(`failed with ü, 100 % and\nline two: ${value}`, Number(value));
        },
      });
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      for (let code = Code.Canceled; code <= Code.Unauthenticated; code += 1) {
        await assert.rejects(echo.one({ value: String(code) }), (error) => {
          assert(error instanceof ConnectError);
          assert.equal(error.code, code);
          assert.equal(error.rawMessage, `failed with ü, 100 % and\nline two: ${code}`);
          return true;
        });
      }
    });

    test("gives meanings their status and hides what was not written for the caller", async () => {
      await using server = await serving({
        one: ({ value }) => {
          throw value === "meaning"
            ? new NotFoundError("Cannot stat x: not found")
            : new TypeError("secret insides");
        },
      });
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      await assert.rejects(echo.one({ value: "meaning" }), {
        code: Code.NotFound,
        rawMessage: "Cannot stat x: not found",
      });
      await assert.rejects(echo.one({ value: "bug" }), { code: Code.Internal, rawMessage: "internal error" });
    });

    test("ends a stream with an error after the messages before it", async () => {
      await using server = await serving({
        async *count() {
          yield { value: "first" };
          throw new FailedPreconditionError("no second");
        },
      });
      using transport = open(server.path);
      const got: string[] = [];
      await assert.rejects(
        async () => {
          for await (const { value } of createClient(Echo, transport).count({})) {
            got.push(value);
          }
        },
        { code: Code.FailedPrecondition, rawMessage: "no second" },
      );
      assert.deepEqual(got, ["first"]);
    });

    test("ends a call at its deadline and tells the handler", async () => {
      const aborted = Promise.withResolvers<unknown>();
      await using server = await serving({
        one: (_request, { signal, timeoutMs }) => {
          assert((timeoutMs() ?? 0) <= 100);
          signal.addEventListener("abort", () => aborted.resolve(signal.reason));
          return new Promise(() => undefined);
        },
      });
      using transport = open(server.path);
      await assert.rejects(createClient(Echo, transport).one({}, { timeoutMs: 100 }), {
        code: Code.DeadlineExceeded,
      });
      assert((await aborted.promise) instanceof ConnectError);
    });

    test("tells the handler of a stream that its client has gone", async () => {
      const ended = Promise.withResolvers<void>();
      await using server = await serving({
        async *count(_request, { signal }) {
          try {
            for (;;) {
              yield { value: "tick" };
              await new Promise((resolve) => setImmediate(resolve));
              signal.throwIfAborted();
            }
          } finally {
            ended.resolve();
          }
        },
      });
      using transport = open(server.path);
      const controller = new AbortController();
      await assert.rejects(
        async () => {
          for await (const { value } of createClient(Echo, transport).count(
            {},
            { signal: controller.signal },
          )) {
            assert.equal(value, "tick");
            controller.abort();
          }
        },
        { code: Code.Canceled },
      );
      await ended.promise;
    });

    test("refuses a message over the limit by name and goes on", async () => {
      await using server = await serving(echoing, { maxMessageBytes: 1024 * 1024 });
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      await assert.rejects(echo.one({ value: "x".repeat(2 * 1024 * 1024) }), {
        code: Code.ResourceExhausted,
        rawMessage: "Cannot receive message of 2097157 bytes: the limit is 1048576 bytes",
      });
      assert.equal((await echo.one({ value: "still here" })).value, "still here!");
    });

    test("refuses to send an answer over the limit", async () => {
      await using server = await serving({ one: () => ({ value: "x".repeat(17 * 1024 * 1024) }) });
      using transport = open(server.path);
      await assert.rejects(createClient(Echo, transport).one({}), { code: Code.ResourceExhausted });
    });

    test("answers a thousand calls at a time", async () => {
      await using server = await serving({
        one: async ({ value }) => {
          await new Promise((resolve) => setImmediate(resolve));
          return { value };
        },
      });
      using transport = open(server.path);
      const echo = createClient(Echo, transport);
      const answers = await Promise.all(
        Array.from({ length: 1000 }, async (_, index) => (await echo.one({ value: String(index) })).value),
      );
      assert.deepEqual(
        answers,
        Array.from({ length: 1000 }, (_, index) => String(index)),
      );
    });

    test("sends response headers before the first message when the handler asks", async () => {
      const go = Promise.withResolvers<void>();
      await using server = await serving({
        async *count(_request, context) {
          context.responseHeader.set("x-early", "yes");
          sendHeaders(context);
          await go.promise;
          yield { value: "late" };
        },
      });
      using transport = open(server.path);
      const header = Promise.withResolvers<string | null>();
      const received = valuesOf(
        createClient(Echo, transport).count(
          {},
          { onHeader: (headers) => header.resolve(headers.get("x-early")) },
        ),
      );
      assert.equal(await header.promise, "yes");
      go.resolve();
      assert.deepEqual(await received, ["late"]);
    });

    test("sends the response headers and trailers that a handler sets", async () => {
      await using server = await serving({
        one: (_request, context) => {
          context.responseHeader.set("x-head", "h");
          context.responseTrailer.set("x-tail", "t");
          return {};
        },
      });
      using transport = open(server.path);
      const seen: (string | null)[] = [];
      await createClient(Echo, transport).one(
        {},
        {
          onHeader: (headers) => seen.push(headers.get("x-head")),
          onTrailer: (trailers) => seen.push(trailers.get("x-tail")),
        },
      );
      assert.deepEqual(seen, ["h", "t"]);
    });
  });
}

describe("a server", () => {
  test("lets calls in flight end when it is disposed of, and takes no new ones", async () => {
    const started = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    await using server = await serving({
      one: async () => {
        started.resolve();
        await go.promise;
        return { value: "done" };
      },
    });
    using channel = unixChannel(server.path);
    const inFlight = createClient(Echo, channel).one({});
    await started.promise;
    const disposed = server.server[Symbol.asyncDispose]();
    using late = unixChannel(server.path);
    await assert.rejects(createClient(Echo, late).one({}), { code: Code.Unavailable });
    go.resolve();
    assert.equal((await inFlight).value, "done");
    await disposed;
    await assert.rejects(stat(server.path), { code: "ENOENT" });
  });

  test("cuts off a call that does not end within the drain time", async () => {
    const started = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    await using server = await serving(
      {
        one: (_request, { signal }) => {
          signal.addEventListener("abort", () => aborted.resolve());
          started.resolve();
          return new Promise(() => undefined);
        },
      },
      { drainTimeoutMs: 50 },
    );
    using channel = unixChannel(server.path);
    const call = createClient(Echo, channel).one({});
    const failed = assert.rejects(call, { code: Code.Unavailable });
    await started.promise;
    await server.server[Symbol.asyncDispose]();
    await Promise.all([failed, aborted.promise]);
  });

  test("passes on ready error details as they are", async () => {
    const details = Buffer.from("not even protobuf").toString("base64");
    await using server = await serving({
      one: () => {
        throw new ConnectError("failed", Code.Unknown, { "grpc-status-details-bin": details });
      },
    });
    using channel = unixChannel(server.path);
    await assert.rejects(createClient(Echo, channel).one({}), (error) => {
      assert(error instanceof ConnectError);
      assert.equal(error.metadata.get("grpc-status-details-bin"), details);
      return true;
    });
  });

  test("carries a message of 15 MiB both ways and refuses one over 16 MiB", async () => {
    await using server = await serving({ one: ({ value }) => ({ value }) });
    using channel = unixChannel(server.path, { maxMessageBytes: 64 * 1024 * 1024 });
    const echo = createClient(Echo, channel);
    const large = "x".repeat(15 * 1024 * 1024);
    assert((await echo.one({ value: large })).value === large);
    await assert.rejects(echo.one({ value: "x".repeat(17 * 1024 * 1024) }), { code: Code.ResourceExhausted });
    await assert.rejects(
      createClient(Echo, unixChannel(server.path)).one({ value: "x".repeat(17 * 1024 * 1024) }),
      /Cannot send message of 17825797 bytes/,
    );
  });

  test("keeps repeated metadata apart", async () => {
    await using server = await serving({
      one: (_request, context) => ({ value: metadataValues(context, "exclude-patterns").join("|") }),
    });
    using channel = unixChannel(server.path);
    const headers: [string, string][] = [
      ["exclude-patterns", "a, b"],
      ["exclude-patterns", "c"],
    ];
    assert.equal((await createClient(Echo, channel).one({}, { headers })).value, "a, b|c");
  });

  test("goes on after an exception in a handler and tells its observer of the original", async () => {
    const seen: unknown[] = [];
    await using server = await serving(
      {
        one: ({ value }) => {
          if (value === "sync") {
            throw new RangeError("boom");
          }
          return value === "async" ? Promise.reject(new TypeError("bang")) : { value: "alive" };
        },
        // biome-ignore lint/correctness/useYield: a generator that fails before its first message is the case here
        async *count() {
          throw new SyntaxError("crash");
        },
      },
      { observe: ({ rpc }, thrown) => seen.push(rpc, thrown instanceof Error ? thrown.message : thrown) },
    );
    using channel = unixChannel(server.path);
    const echo = createClient(Echo, channel);
    await assert.rejects(echo.one({ value: "sync" }), { code: Code.Internal });
    await assert.rejects(echo.one({ value: "async" }), { code: Code.Internal });
    await assert.rejects(valuesOf(echo.count({})), { code: Code.Internal });
    assert.equal((await echo.one({})).value, "alive");
    const one = "echo.v1.Echo/One";
    assert.deepEqual(seen, [one, "boom", one, "bang", "echo.v1.Echo/Count", "crash", one, undefined]);
  });

  test("replaces the socket file of a process that is gone", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "stale.sock");
    const dead = createServer().listen(path);
    await once(dead, "listening");
    // Closing the handle alone, as a killed process does: the file stays.
    await leaveSocketBehind(path);
    dead.close();
    await using _server = await serve({
      addresses: [{ path, mode: 0o600 }],
      implementations: [implement(Echo, echoing)],
    });
    using channel = unixChannel(path);
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
  });

  test("refuses a socket that another process serves", async () => {
    await using first = await serving(echoing);
    await assert.rejects(
      serve({ addresses: [{ path: first.path, mode: 0o600 }], implementations: [] }),
      (error) => error instanceof FailedPreconditionError && error.message.includes(first.path),
    );
    using channel = unixChannel(first.path);
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
  });

  test("makes its socket with the permissions it was told, whatever the umask", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "grpc-"));
    const path = join(directory.path, "mode.sock");
    const previous = process.umask(0);
    try {
      await using _server = await serve({ addresses: [{ path, mode: 0o660 }], implementations: [] });
      assert.equal((await stat(path)).mode & 0o777, 0o660);
    } finally {
      process.umask(previous);
    }
  });

  test("closes connections that it is told to refuse", async () => {
    await using server = await serving(echoing, { refuse: () => "not you" });
    using channel = unixChannel(server.path);
    await assert.rejects(createClient(Echo, channel).one({}), { code: Code.Unavailable });
  });
});

/** Binds `path` in a child that ends without closing, so that its socket file stays behind. */
async function leaveSocketBehind(path: string): Promise<void> {
  const { spawn } = await import("node:child_process");
  const code = `require("node:fs").unlinkSync(process.argv[1]);
    require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`;
  await once(spawn(process.execPath, ["-e", code, path]), "exit");
}
