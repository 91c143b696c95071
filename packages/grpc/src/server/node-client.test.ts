import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2, type Settings } from "node:http2";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { array, assert as assertProperty, asyncProperty, stringMatching, tuple } from "fast-check";
import { echoing, serving } from "../echo/serving.ts";
import { envelope } from "../envelope.ts";

/** A client of Node's own, which shares no code with our server: it is made on nghttp2. */
async function openSession(path: string, settings: Settings = {}) {
  const session = connectHttp2("http://localhost", { createConnection: () => connect(path), settings });
  await once(session, "connect");
  return Object.assign(session, { [Symbol.dispose]: () => session.destroy() });
}

const message = (value: string) =>
  envelope(toBinary(StringValueSchema, create(StringValueSchema, { value })), 2 ** 24);

interface Answer {
  readonly headers: readonly string[];
  readonly trailers: readonly string[];
  readonly body: Buffer;
}

async function call(
  session: ClientHttp2Session,
  body: Buffer,
  { method = "One", headers = {} }: { method?: string; headers?: Record<string, string | string[]> } = {},
): Promise<Answer> {
  const stream = session.request({
    ":method": "POST",
    ":path": `/echo.v1.Echo/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
  let [head, tail]: [readonly string[], readonly string[]] = [[], []];
  stream.on("response", (_headers, _flags, raw: readonly string[]) => {
    head = raw;
  });
  stream.on("trailers", (_trailers, _flags, raw?: readonly string[]) => {
    tail = raw ?? [];
  });
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.end(body);
  await once(stream, "close");
  return { headers: head, trailers: tail, body: Buffer.concat(chunks) };
}

/** Metadata as pairs: names that no standard knows, values of any text that a header may have. */
const metadata = array(
  tuple(
    stringMatching(/^x-[a-z0-9_.-]{1,20}$/),
    stringMatching(/^([!-~\u00a0-\u00ff]([ -~]{0,200}[!-~])?)?$/),
  ),
  { maxLength: 20 },
);

describe("with Node's HTTP/2 client", () => {
  test("metadata arrive as they were sent, both ways, whatever the tables have in them", async () => {
    const seen: string[][] = [];
    let reply: [string, string][] = [];
    await using server = await serving({
      one: (_request, { requestHeader, responseHeader }) => {
        seen.push([...requestHeader].filter(([name]) => name.startsWith("x-")).flat());
        for (const [name, value] of reply) {
          responseHeader.set(name, value);
        }
        return {};
      },
    });
    using session = await openSession(server.path);
    await assertProperty(
      asyncProperty(metadata, async (pairs) => {
        const sent = new Map(pairs);
        reply = [...sent];
        const { headers } = await call(session, message("a"), { headers: Object.fromEntries(sent) });
        const sorted = [...sent].sort(([a], [b]) => (a < b ? -1 : 1)).flat();
        assert.deepEqual(seen.at(-1), sorted);
        const got = new Map<string, string>();
        for (let index = 0; index < headers.length; index += 2) {
          if (headers[index]?.startsWith("x-") === true) {
            got.set(headers[index] ?? "", headers[index + 1] ?? "");
          }
        }
        assert.deepEqual([...got].flat(), sorted);
      }),
      { numRuns: 200 },
    );
  });

  test("a table may be made smaller, larger and nothing while calls go on", async () => {
    await using server = await serving(echoing);
    using session = await openSession(server.path);
    for (const headerTableSize of [4096, 100, 0, 8192, 0, 4096]) {
      session.settings({ headerTableSize });
      await once(session, "localSettings");
      const [first, second] = await Promise.all([call(session, message("a")), call(session, message("b"))]);
      assert.deepEqual([first.body, second.body], [message("a!"), message("b!")]);
    }
  });

  const settings: readonly Settings[] = [
    { initialWindowSize: 1 },
    { initialWindowSize: 16_385, maxFrameSize: 16_384 },
    { initialWindowSize: 2 ** 31 - 1, maxFrameSize: 2 ** 24 - 1 },
    { headerTableSize: 0, maxHeaderListSize: 2 ** 16 },
  ];
  for (const each of settings) {
    test(`a mebibyte goes both ways with ${JSON.stringify(each)}`, async () => {
      await using server = await serving(echoing);
      using session = await openSession(server.path, each);
      const value = "0123456789abcdef".repeat(each.initialWindowSize === 1 ? 256 : 64 * 1024);
      const { body } = await call(session, message(value));
      assert(body.equals(message(`${value}!`)));
    });
  }

  test("trailers that are larger than a frame arrive", async () => {
    const details = "d".repeat(39_000);
    await using server = await serving({
      async *count() {
        yield { value: "a" };
        throw new ConnectError("x".repeat(8000), Code.Unknown, { "grpc-status-details-bin": details });
      },
    });
    using session = await openSession(server.path);
    const { trailers } = await call(session, message("a"), { method: "Count" });
    const at = trailers.indexOf("grpc-status-details-bin");
    assert.equal(trailers[at + 1], details);
  });

  test("repeated and binary metadata stay as they are", async () => {
    await using server = await serving({
      one: (_request, { requestHeader, responseTrailer }) => {
        responseTrailer.set("x-all-bin", requestHeader.get("x-all-bin") ?? "");
        return {};
      },
    });
    using session = await openSession(server.path);
    const values = [Buffer.of(0, 255, 1).toString("base64"), "AAE"];
    const { trailers } = await call(session, message("a"), { headers: { "x-all-bin": values } });
    assert.equal(trailers[trailers.indexOf("x-all-bin") + 1], "AP8B, AAE");
  });

  test("pings are answered", async () => {
    await using server = await serving(echoing);
    using session = await openSession(server.path);
    const payload = Buffer.from("12345678");
    const answer = await new Promise<Buffer>((resolve, reject) => {
      session.ping(payload, (error, _duration, bytes) => (error === null ? resolve(bytes) : reject(error)));
    });
    assert.deepEqual(answer, payload);
  });
});
