import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Collector, readCollector } from "./collector.ts";
import { withoutHeaders } from "./span-sender.ts";

const ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL";

async function collectorOf(environment: NodeJS.ProcessEnv): Promise<Collector> {
  return (await readCollector(environment)) ?? assert.fail(`there is none in ${JSON.stringify(environment)}`);
}

describe("an environment", () => {
  test("has a collector if it says so in one of several ways, and does not take it back", async () => {
    for (const environment of [
      { [ENDPOINT]: "http://127.0.0.1:4317" },
      { [TRACES_ENDPOINT]: "http://127.0.0.1:4317" },
      { OTEL_TRACES_EXPORTER: "otlp" },
    ]) {
      assert((await readCollector(environment)) !== undefined, JSON.stringify(environment));
      for (const taken of [{ OTEL_TRACES_EXPORTER: "none" }, { OTEL_SDK_DISABLED: "TRUE" }]) {
        assert.equal(await readCollector({ ...environment, ...taken }), undefined);
      }
    }
    for (const environment of [{}, { [ENDPOINT]: "" }, { OTEL_EXPORTER_OTLP_HEADERS: "a=b" }]) {
      assert.equal(await readCollector(environment), undefined, JSON.stringify(environment));
    }
  });

  const addresses: readonly [NodeJS.ProcessEnv, string][] = [
    [{ OTEL_TRACES_EXPORTER: "otlp" }, "grpc http://localhost:4317"],
    [
      { OTEL_TRACES_EXPORTER: "otlp", [PROTOCOL]: "http/protobuf" },
      "http/protobuf http://localhost:4318/v1/traces",
    ],
    [{ [ENDPOINT]: "https://c.example" }, "grpc https://c.example:4317"],
    [{ [ENDPOINT]: "c.example:1" }, "grpc https://c.example:1"],
    [{ [ENDPOINT]: "[::1]:1", OTEL_EXPORTER_OTLP_INSECURE: "true" }, "grpc http://::1:1"],
    [{ [ENDPOINT]: "unix:///dev/otel-grpc.sock" }, "grpc /dev/otel-grpc.sock"],
    [{ [ENDPOINT]: "http://a:1", [TRACES_ENDPOINT]: "http://b:2" }, "grpc http://b:2"],
    [{ [ENDPOINT]: "http://a/x/", [PROTOCOL]: "http/protobuf" }, "http/protobuf http://a:80/x/v1/traces"],
    [
      { [TRACES_ENDPOINT]: "https://a/x?y=z", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf" },
      "http/protobuf https://a:443/x?y=z",
    ],
  ];
  for (const [environment, want] of addresses) {
    test(`that says ${JSON.stringify(environment)} means ${want}`, async () => {
      const { protocol, place } = await collectorOf(environment);
      const { host, port, isTls, path, socketPath } = place;
      const address = socketPath ?? `${isTls ? "https" : "http"}://${host}:${port}${path}`;
      assert.equal(`${protocol} ${address}`, want);
    });
  }

  test("says who is asking, in headers and in the address, of which no text tells", async () => {
    const { headers, place } = await collectorOf({
      [ENDPOINT]: "http://user:p%40ss@c.example:1/?key=secret",
      OTEL_EXPORTER_OTLP_HEADERS: "unused=1",
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: " API-Key = a%20b%2Cc , other= ",
      [PROTOCOL]: "http/protobuf",
    });
    assert.deepEqual(headers, [
      ["authorization", `Basic ${Buffer.from("user:p@ss").toString("base64")}`],
      ["api-key", "a b,c"],
      ["other", ""],
    ]);
    assert.equal(place.text, "http://c.example:1");
    const said = withoutHeaders("no user with key a b,c and dXNlcjpwQHNz", headers);
    assert.equal(said, "no user with key *** and ***");
  });

  test("bounds time and number", async () => {
    const { timeoutMs, limits } = await collectorOf({
      [ENDPOINT]: "http://a",
      OTEL_EXPORTER_OTLP_TIMEOUT: "7",
      OTEL_BSP_SCHEDULE_DELAY: "0",
      OTEL_BSP_MAX_QUEUE_SIZE: "100",
    });
    assert.deepEqual([timeoutMs, limits], [7, { delayMs: 0, waitingSpans: 100, batchSpans: 100 }]);
  });
});

describe("a collector", () => {
  test("is told who we are by a certificate and its key, not by one of them", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "collector-"));
    const file = join(directory.path, "key.pem");
    await writeFile(file, "-----BEGIN PRIVATE KEY-----\n");
    const key = { [ENDPOINT]: "https://h", OTEL_EXPORTER_OTLP_CLIENT_KEY: file };
    await assert.rejects(
      readCollector(key),
      /CLIENT_KEY alone, want both OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE/,
    );
    const both = { ...key, OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE: file };
    await assert.rejects(
      readCollector(both),
      /Cannot use \$OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE, \$OTEL_EXPORTER_OTLP_CLIENT_KEY: .*want PEM/,
    );
  });

  const wrong: readonly [NodeJS.ProcessEnv, string][] = [
    [{ OTEL_TRACES_EXPORTER: "zipkin" }, '$OTEL_TRACES_EXPORTER: it is "zipkin", want otlp or none'],
    [{ OTEL_SDK_DISABLED: "perhaps" }, '$OTEL_SDK_DISABLED: it is "perhaps", want true or false'],
    [{ [ENDPOINT]: "ftp://secret@h" }, `$${ENDPOINT}: it is no such address, want http://HOST:PORT, `],
    [{ [ENDPOINT]: "http://u:secret%zz@h" }, `$${ENDPOINT}: its user or password is not percent-encoded`],
    [{ [ENDPOINT]: "", [TRACES_ENDPOINT]: "http://:secret" }, `$${TRACES_ENDPOINT}: it is no such address`],
    [
      { [TRACES_ENDPOINT]: "unix:///secret", [PROTOCOL]: "http/protobuf" },
      "want http://HOST:PORT or https://HOST:PORT",
    ],
    [{ [PROTOCOL]: "http/json" }, `$${PROTOCOL}: it is "http/json", want grpc or http/protobuf`],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "a=b,secret" }, "$OTEL_EXPORTER_OTLP_HEADERS: entry 2"],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "a=secret%0A" }, "entry 1 cannot be a header, want a header's name"],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "a=secret%zz" }, "entry 1 is not of the form"],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "a b=secret" }, "entry 1 is not of the form"],
    [{ OTEL_EXPORTER_OTLP_HEADERS: "TE=secret" }, "want none that the protocol sets itself"],
    [{ OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "10s" }, '$OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: it is "10s", want'],
    [{ [ENDPOINT]: "h:1", OTEL_EXPORTER_OTLP_INSECURE: "yes" }, "$OTEL_EXPORTER_OTLP_INSECURE"],
    [{ OTEL_EXPORTER_OTLP_COMPRESSION: "gzip" }, '_COMPRESSION: it is "gzip", want none with grpc'],
    [{ OTEL_EXPORTER_OTLP_CERTIFICATE: "/no/such.pem" }, "'/no/such.pem', want a PEM file"],
    [
      { OTEL_EXPORTER_OTLP_CERTIFICATE: "/etc/passwd" },
      'Cannot use $OTEL_EXPORTER_OTLP_CERTIFICATE: there is no PEM in "/etc/passwd"',
    ],
    [{ OTEL_BSP_MAX_QUEUE_SIZE: "0" }, "$OTEL_BSP_MAX_QUEUE_SIZE"],
  ];
  for (const [environment, message] of wrong) {
    test(`is not to be had by ${JSON.stringify(environment)}`, async () => {
      await assert.rejects(readCollector({ OTEL_TRACES_EXPORTER: "otlp", ...environment }), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert(error.message.includes(message), error.message);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
    });
  }
});
