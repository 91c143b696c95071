import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { createServer as createHttpServer, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { SessionAuthService } from "@oci-worker/api/ociworker/session";
import type { AuthorizeResponse } from "@oci-worker/api/ociworker/source";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { type ResolverPeer, startResolver } from "./peers/resolver.ts";
import { startSessionService } from "./peers/session-service.ts";

const user = { username: "user", secret: "right-c4n4ry" };

/** What a token server that we have angered may at most cost us. */
const config = "tokenTimeoutMs = 1500\n";
const maxGrowthMiB = 150;

/** The ways in which it may end: never with a bug of ours, never without an end. */
const honest: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Unauthenticated, Code.InvalidArgument]);

/** A server of the test on loopback. */
async function listening(server: Server) {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) {
        socket.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}

/** Asks for an authorization as a registry's 401 would have it. */
async function authorize(
  { client }: ResolverPeer,
  challenges: string[],
  registry = "127.0.0.1:1",
): Promise<AuthorizeResponse> {
  const reference = { reference: `${registry}/team/app:1`, sessionIds: ["one"] };
  const { sources } = await client.resolveSources({ query: { case: "reference", value: reference } });
  return await client.authorize({ handle: sources[0]?.handle ?? "", host: registry, challenges });
}

/** The error that it ends with; undefined if it has found something. */
async function endOf(promise: Promise<unknown>): Promise<ConnectError | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ConnectError, String(error));
    assert.ok(honest.has(error.code), `${Code[error.code]}: ${error.rawMessage}`);
    assert.doesNotMatch(error.rawMessage, /c4n4ry/);
    return error;
  }
}

async function residentMiB({ process }: ResolverPeer): Promise<number> {
  const status = await readFile(`/proc/${process.pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

function json(value: unknown) {
  return (response: ServerResponse) => void response.end(JSON.stringify(value));
}

function endlessly(response: ServerResponse, piece: Buffer | string): void {
  const more = () => {
    while (!response.destroyed && response.write(piece)) {
      // As much as the connection takes.
    }
  };
  response.on("drain", more);
  more();
}

/** A gigabyte of nothing, in a megabyte. */
const bomb = gzipSync(Buffer.alloc(1024 ** 3));

const answers: Readonly<Record<string, (response: ServerResponse) => void>> = {
  "a body without end": (response) => endlessly(response, Buffer.alloc(64 * 1024, "x")),
  "a body without end, of JSON": (response) => {
    response.write('{"token":"');
    endlessly(response, "x".repeat(64 * 1024));
  },
  "a gzip bomb": (response) => void response.writeHead(200, { "content-encoding": "gzip" }).end(bomb),
  "deep JSON": (response) => void response.end("[".repeat(500_000)),
  "no JSON": (response) => void response.end("<html>c4n4ry</html>"),
  "no token": json({ expires_in: 300 }),
  "a token with a header in it": json({ token: "c4n4ry\r\nX-Evil: 1" }),
  "a token of a megabyte": json({ token: "x".repeat(1_000_000) }),
  "a lifetime below zero": json({ token: "t", expires_in: -1 }),
  "a lifetime beyond numbers": (response) => void response.end('{"token":"t","expires_in":1e999}'),
  "headers of a megabyte": (response) =>
    void response.writeHead(200, { "x-long": "x".repeat(1_000_000) }).end("{}"),
  "a redirect to itself": (response) => void response.writeHead(307, { location: "/token" }).end(),
  "a redirect to a file": (response) =>
    void response.writeHead(302, { location: "file:///etc/shadow" }).end(),
  "half an answer": (response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write('{"token":');
    response.socket?.end();
  },
  "no answer": () => undefined,
  "a byte at a time": (response) => {
    const timer = setInterval(() => response.write(" "), 20);
    response.on("close", () => clearInterval(timer));
  },
  "a wish to be left alone for years": (response) =>
    void response.writeHead(429, { "retry-after": "999999999" }).end(),
};

describe("a token server", () => {
  test("that is hostile ends in an error, and costs neither time nor memory without bounds", async () => {
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address, config });
    await endOf(authorize(resolver, ["Basic"]));
    const before = await residentMiB(resolver);
    for (const [name, answer] of Object.entries(answers)) {
      await using server = await listening(createHttpServer((_request, response) => answer(response)));
      const challenge = `Bearer realm="http://${server.host}/token",service="s"`;
      assert.ok((await endOf(authorize(resolver, [challenge]))) !== undefined, name);
      const grown = (await residentMiB(resolver)) - before;
      assert.ok(grown < maxGrowthMiB, `${name}: ${grown} MiB more`);
    }
    assert.equal(resolver.process.hasEnded, false);
    assert.doesNotMatch(resolver.log.join("\n"), /c4n4ry/);
  });

  test("that speaks no HTTP, or its headers a byte at a time, ends in an error", async () => {
    const talks: ((socket: Socket) => void)[] = [
      (socket) => void socket.end("220 mail.example ESMTP\r\n"),
      (socket) => socket.destroy(),
      (socket) => {
        socket.write("HTTP/1.1 200 OK\r\nx-slow: ");
        const timer = setInterval(() => socket.write("x"), 20);
        socket.on("close", () => clearInterval(timer));
      },
    ];
    await using sessions = await startSessionService({ one: user });
    await using resolver = await startResolver({ sessionAddress: sessions.address, config });
    for (const talk of talks) {
      await using server = await listening(createServer(talk));
      const error = await endOf(authorize(resolver, [`Bearer realm="http://${server.host}/token"`]));
      assert.equal(error?.code, Code.Unavailable);
    }
  });

  test("with a lifetime of ages is asked again within a year", async () => {
    await using server = await listening(
      createHttpServer((_request, response) =>
        json({ token: "t", expires_in: Number.MAX_SAFE_INTEGER })(response),
      ),
    );
    await using resolver = await startResolver();
    const { authorization, expiresAt } = await authorize(resolver, [`Bearer realm="http://${server.host}/"`]);
    assert.equal(authorization, "Bearer t");
    assert.ok(Number(expiresAt?.seconds) * 1000 < Date.now() + 366 * 86_400_000);
  });

  test("that a hostile registry names sees the password of that registry alone", async () => {
    const seen: (string | undefined)[] = [];
    await using server = await listening(
      createHttpServer((request, response) => {
        seen.push(request.headers.authorization);
        json({ token: "t" })(response);
      }),
    );
    // The operator has a password for the token server's own host, and another for the hostile registry.
    await using directory = await mkdtempDisposable(join(tmpdir(), "docker-"));
    const auth = (password: string) => Buffer.from(`user:${password}`).toString("base64");
    const auths = { [server.host]: { auth: auth("its-c4n4ry") }, "127.0.0.1:1": { auth: auth("hostile") } };
    await writeFile(join(directory.path, "config.json"), JSON.stringify({ auths }));
    await using resolver = await startResolver({ environment: { DOCKER_CONFIG: directory.path } });
    await authorize(resolver, [`Bearer realm="http://${server.host}/token"`]);
    assert.deepEqual(seen, [`Basic ${auth("hostile")}`]);
  });
});

/** Handlers of a worker with one session that offers everything. */
const attached: Partial<ServiceImpl<typeof SessionAuthService>> = {
  listSessions: () => ({
    sessions: [
      {
        id: "one",
        methods: ["credentials", "fetchtoken", "gettokenauthority", "verifytokenauthority"].map(
          (method) => `/moby.filesync.v1.auth/${method}`,
        ),
      },
    ],
  }),
};

describe("a session", () => {
  test("that answers nonsense ends in an error, and what comes after it is tried", async () => {
    const nonsense: Partial<ServiceImpl<typeof SessionAuthService>>[] = [
      { getCredentials: () => ({ username: "\r\nX: 1", secret: "" }) },
      { getTokenAuthority: () => ({ publicKey: new Uint8Array(1_000_000) }) },
      {
        getTokenAuthority: () => ({ publicKey: new Uint8Array(32) }),
        verifyTokenAuthority: () => ({ signed: new Uint8Array(96) }),
      },
      {
        getTokenAuthority: () => {
          throw new ConnectError("c4n4ry".repeat(10_000), Code.DataLoss);
        },
      },
      {
        listSessions: () => ({
          sessions: Array.from({ length: 5000 }, () => ({ id: "one", methods: ["x"] })),
        }),
      },
      {
        listSessions: () => {
          throw new ConnectError("internal error", Code.Internal);
        },
      },
    ];
    await using server = await listening(
      createHttpServer((_request, response) => json({ token: "anonymous" })(response)),
    );
    for (const changes of nonsense) {
      await using directory = await mkdtempDisposable(join(tmpdir(), "sessions-"));
      const address = join(directory.path, "session.sock");
      await using _service = await serve({
        addresses: [{ path: address, mode: 0o600 }],
        implementations: [implement(SessionAuthService, { ...attached, ...changes })],
      });
      await using resolver = await startResolver({ sessionAddress: address });
      await endOf(authorize(resolver, ["Basic"]));
      const { authorization } = await authorize(resolver, [`Bearer realm="http://${server.host}/token"`]);
      assert.equal(authorization, "Bearer anonymous");
      assert.doesNotMatch(resolver.log.join("\n"), /c4n4ry/);
    }
  });

  test("service that speaks no gRPC ends in an error", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "sessions-"));
    const talks = [
      createServer((socket) => void socket.on("error", () => undefined).end("nonsense".repeat(10_000))),
      createHttp2Server().on("stream", (stream: ServerHttp2Stream) => {
        stream.on("error", () => undefined);
        stream.respond({ ":status": 200, "content-type": "application/grpc+proto" });
        stream.end(Buffer.alloc(100_000, 0xff));
      }),
    ];
    for (const [index, server] of talks.entries()) {
      const address = join(directory.path, `${index}.sock`);
      server.listen(address);
      await once(server, "listening");
      await using resolver = await startResolver({ sessionAddress: address, config });
      const error = await endOf(authorize(resolver, ["Basic"]));
      assert.ok(error !== undefined);
      assert.equal(resolver.process.hasEnded, false);
      server.close();
    }
  });
});
