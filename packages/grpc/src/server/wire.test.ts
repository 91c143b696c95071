import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { NotFoundError } from "@oci-worker/errdefs";
import { unixChannel } from "../client/channel.ts";
import { Echo } from "../echo/service.ts";
import { echoing, serving } from "../echo/serving.ts";
import { envelope } from "../envelope.ts";

/** What a raw HTTP/2 client got for one request. */
interface RawAnswer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function rawRequest(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  ...chunks: Buffer[]
): Promise<RawAnswer> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/echo.v1.Echo/One",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  let answer: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  const body: Buffer[] = [];
  stream.on("response", (got) => {
    answer = got;
  });
  stream.on("trailers", (got) => {
    trailers = got;
  });
  stream.on("data", (chunk: Buffer) => body.push(chunk));
  for (const chunk of chunks) {
    stream.write(chunk);
  }
  stream.end();
  await once(stream, "close");
  return { headers: answer, trailers, body: Buffer.concat(body) };
}

async function rawSession(path: string, authority = "http://localhost") {
  const session = connectHttp2(authority, { createConnection: () => connect(path) });
  await once(session, "connect");
  return Object.assign(session, { [Symbol.dispose]: () => session.destroy() });
}

const request = (value: string) => toBinary(StringValueSchema, create(StringValueSchema, { value }));

describe("a server called by hand", () => {
  test("answers an error with trailers only, in one header block", async () => {
    await using server = await serving({
      one: () => {
        throw new NotFoundError("no such thing");
      },
    });
    using session = await rawSession(server.path);
    const { headers, trailers, body } = await rawRequest(session, {}, envelope(request("a"), 100));
    assert.equal(headers[":status"], 200);
    assert.equal(headers["grpc-status"], "5");
    assert.equal(headers["grpc-message"], "no such thing");
    assert.equal(body.length, 0);
    assert.deepEqual(Object.keys(trailers), []);
  });

  test("answers Unimplemented for an unknown method, service and path", async () => {
    await using server = await serving(echoing);
    using session = await rawSession(server.path);
    for (const path of ["/echo.v1.Echo/Two", "/other.Service/One", "/nonsense", "/echo.v1.Echo/toString"]) {
      const { headers } = await rawRequest(session, { ":path": path }, envelope(request("a"), 100));
      assert.equal(headers[":status"], 200, path);
      assert.equal(headers["grpc-status"], "12", path);
    }
  });

  test("answers Unimplemented for a method without a handler", async () => {
    await using server = await serving({});
    using session = await rawSession(server.path);
    const { headers } = await rawRequest(session, {}, envelope(request("a"), 100));
    assert.equal(headers["grpc-status"], "12");
  });

  test("takes any :authority, also one that is no host name", async () => {
    await using server = await serving(echoing);
    for (const authority of ["%2Frun%2Fx.sock", "localhost", "x.sock:0", "[::1]:80"]) {
      using session = await rawSession(server.path);
      const { trailers } = await rawRequest(
        session,
        { ":authority": authority },
        envelope(request("a"), 100),
      );
      assert.equal(trailers["grpc-status"], "0", authority);
    }
  });

  test("answers what is no gRPC with an HTTP status", async () => {
    await using server = await serving(echoing);
    using session = await rawSession(server.path);
    const json = await rawRequest(session, { "content-type": "application/json" });
    assert.equal(json.headers[":status"], 415);
    const get = await rawRequest(session, { ":method": "GET" });
    assert.equal(get.headers[":status"], 405);
  });

  test("takes gzip messages and refuses other encodings", async () => {
    await using server = await serving(echoing);
    using session = await rawSession(server.path);
    const zipped = envelope(gzipSync(request("zipped")), 1000);
    zipped[0] = 1;
    const gzip = await rawRequest(session, { "grpc-encoding": "gzip" }, zipped);
    assert.equal(gzip.trailers["grpc-status"], "0");
    assert.deepEqual(gzip.body, envelope(request("zipped!"), 100));
    const snappy = await rawRequest(session, { "grpc-encoding": "snappy" }, zipped);
    assert.equal(snappy.headers["grpc-status"], "12");
    assert.match(String(snappy.headers["grpc-message"]), /"snappy"/);
    const unannounced = await rawRequest(session, {}, zipped);
    assert.equal(unannounced.headers["grpc-status"], "12");
  });

  test("refuses a gzip message that unpacks to more than the limit", async () => {
    await using server = await serving(echoing, { maxMessageBytes: 64 * 1024 });
    using session = await rawSession(server.path);
    const bomb = envelope(gzipSync(Buffer.alloc(8 * 1024 * 1024)), 64 * 1024);
    bomb[0] = 1;
    const { headers } = await rawRequest(session, { "grpc-encoding": "gzip" }, bomb);
    assert.equal(headers["grpc-status"], "8");
  });

  test("refuses broken requests with the reason", async () => {
    await using server = await serving(echoing);
    using session = await rawSession(server.path);
    const cases = [
      { name: "no message", chunks: [], message: /no message/ },
      {
        name: "two messages",
        chunks: [envelope(request("a"), 9), envelope(request("b"), 9)],
        message: /one message/,
      },
      { name: "half a message", chunks: [envelope(request("abc"), 9).subarray(0, 7)], message: /ended/ },
      { name: "half a prefix", chunks: [Buffer.alloc(3)], message: /ended/ },
      { name: "bad flags", chunks: [Buffer.from([9, 0, 0, 0, 0])], message: /flags are 9/ },
      {
        name: "no protobuf",
        chunks: [envelope(Buffer.from([0x0a, 0x7f]), 9)],
        message: /no valid google.protobuf.S/,
      },
      {
        name: "bad gzip",
        chunks: [Buffer.from([1, 0, 0, 0, 2, 1, 2])],
        message: /not valid gzip/,
        encoding: "gzip",
      },
    ];
    for (const { name, chunks, message, encoding } of cases) {
      const { headers } = await rawRequest(
        session,
        encoding === undefined ? {} : { "grpc-encoding": encoding },
        ...chunks,
      );
      assert.equal(headers["grpc-status"], "3", name);
      assert.match(decodeURIComponent(String(headers["grpc-message"])), message, name);
    }
  });

  test("takes a message that comes byte by byte", async () => {
    await using server = await serving(echoing);
    using session = await rawSession(server.path);
    const bytes = [...envelope(request("slow"), 100)].map((byte) => Buffer.from([byte]));
    const { trailers } = await rawRequest(session, {}, ...bytes);
    assert.equal(trailers["grpc-status"], "0");
  });

  test("takes deadlines of years and refuses malformed ones", async () => {
    await using server = await serving({
      one: async (_request, { timeoutMs }) => {
        await new Promise((resolve) => setImmediate(resolve));
        return { value: String((timeoutMs() ?? 0) > 2_000_000_000) };
      },
    });
    using session = await rawSession(server.path);
    const long = await rawRequest(session, { "grpc-timeout": "99999999H" }, envelope(request("a"), 100));
    assert.equal(long.trailers["grpc-status"], "0");
    assert.deepEqual(long.body, envelope(request("true"), 100));
    for (const timeout of ["5", "S", "123456789m", "-1S", "1.5S"]) {
      const bad = await rawRequest(session, { "grpc-timeout": timeout }, envelope(request("a"), 100));
      assert.equal(bad.headers["grpc-status"], "3", timeout);
    }
  });

  test("survives a connection that speaks no HTTP/2 and one that breaks off", async () => {
    await using server = await serving(echoing);
    const garbage = connect(server.path);
    garbage.end("GET / HTTP/1.1\r\n\r\n");
    garbage.resume();
    await once(garbage, "close");
    const session = await rawSession(server.path);
    session.request({ ":method": "POST", ":path": "/echo.v1.Echo/One", "content-type": "application/grpc" });
    session.destroy();
    using channel = unixChannel(server.path);
    assert.equal((await createClient(Echo, channel).one({ value: "a" })).value, "a!");
  });
});
