import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { parseReference } from "@oci-worker/oci/reference";
import { BuildKitClient } from "./client.ts";
import { collect, withDaemon } from "./fake-daemon/with-daemon.ts";

const step = run({ root: image(parseReference("busybox")), args: ["true"] });
const definition = definitionOf(step.root);

test("workers and info are told in our words", async () => {
  const workers = [
    {
      ID: "w1",
      Labels: { a: "b" },
      platforms: [{ OS: "linux", Architecture: "arm", Variant: "v7" }],
      CDIDevices: [{ Name: "vendor.com/gpu=0", AutoAllow: true, Annotations: { c: "d" } }],
    },
  ];
  await withDaemon({ workers }, async ({ client }) => {
    assert.deepEqual(await client.workers(), [
      {
        id: "w1",
        labels: { a: "b" },
        platforms: [{ os: "linux", architecture: "arm", variant: "v7" }],
        devices: [
          { name: "vendor.com/gpu=0", isAutoAllowed: true, isOnDemand: false, annotations: { c: "d" } },
        ],
      },
    ]);
    assert.deepEqual(await client.info(), {
      package: "example.com/fake",
      version: "v1.2.3",
      revision: "f00",
    });
  });
});

describe("an address", () => {
  test("of another kind is refused", () => {
    assert.throws(
      () => new BuildKitClient("ssh://somewhere"),
      /ssh is not supported, want unix:\/\/PATH or tcp:\/\/HOST:PORT/,
    );
  });
  test("in the network has a host and a port", async () => {
    for (const address of [
      "tcp://",
      "tcp://host",
      "tcp://host:0",
      "tcp://host:65536",
      "tcp://::1:1",
      "tcp://a:1/b",
    ]) {
      assert.throws(() => new BuildKitClient(address), /want tcp:\/\/HOST:PORT with a port from 1 to 65535/);
    }
    for (const address of ["tcp://host:1", "tcp://127.0.0.1:65535", "tcp://[::1]:1234"]) {
      await using _client = new BuildKitClient(address);
    }
  });
  test("takes no TLS that cannot be", () => {
    const tls = { ca: "no PEM" };
    assert.throws(() => new BuildKitClient("unix:///x.sock", { tls: {} }), /TLS is not for unix sockets/);
    assert.throws(
      () => new BuildKitClient("tcp://h:1", { tls: { cert: "x" } }),
      /want a certificate and its key/,
    );
    assert.throws(
      () => new BuildKitClient("tcp://h:1", { tls: { ...tls, cert: "x", key: "y" } }),
      /want PEM/,
    );
  });
  test("without a kind is refused with what was probably meant", () => {
    assert.throws(() => new BuildKitClient("/run/x.sock"), /you meant unix:\/\/\/run\/x\.sock/);
  });
  test("without an absolute path is refused", () => {
    assert.throws(() => new BuildKitClient("unix://x.sock"), InvalidArgumentError);
  });
});

test("a daemon that is not there is an UnavailableError, for calls and for builds", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "client-"));
  await using client = new BuildKitClient(`unix://${dir.path}/none.sock`);
  await assert.rejects(client.workers(), UnavailableError);
  const build = client.solve(definition);
  assert.deepEqual(await collect(build.status), []);
  await assert.rejects(build.result, UnavailableError);
});
