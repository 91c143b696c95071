import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { digestOf } from "./digest.ts";
import { parseImageConfig } from "./image-config.ts";

function read(document: unknown) {
  return parseImageConfig(Buffer.from(JSON.stringify(document)));
}

describe("parseImageConfig", () => {
  test("reads how to start a container", () => {
    const diffID = digestOf("tar");
    const config = read({
      architecture: "x86_64",
      os: "linux",
      config: {
        Env: ["PATH=/bin", "EMPTY="],
        Entrypoint: ["/init"],
        Cmd: ["-v"],
        WorkingDir: "/srv",
        User: "app:staff",
        Labels: { a: "b" },
        ExposedPorts: { "80/tcp": {} },
        Volumes: { "/data": {} },
        StopSignal: "SIGINT",
      },
      rootfs: { type: "layers", diff_ids: [diffID] },
      history: [{ created_by: "x" }],
    });
    const { document, ...rest } = config;
    assert.deepEqual(rest, {
      platform: { os: "linux", architecture: "amd64" },
      diffIDs: [diffID],
      env: ["PATH=/bin", "EMPTY="],
      entrypoint: ["/init"],
      cmd: ["-v"],
      workingDir: "/srv",
      user: "app:staff",
      labels: { a: "b" },
      exposedPorts: ["80/tcp"],
      volumes: ["/data"],
      stopSignal: "SIGINT",
    });
    assert.deepEqual(document["history"], [{ created_by: "x" }]);
  });

  test("takes what is absent or null for empty", () => {
    const empty = read({});
    assert.deepEqual(
      [empty.env, empty.entrypoint, empty.cmd, empty.diffIDs, empty.user],
      [[], [], [], [], ""],
    );
    assert.deepEqual(read({ config: { Env: null, Entrypoint: null, Cmd: null } }).env, []);
    assert.deepEqual(read({ config: null, rootfs: null }).cmd, []);
  });

  test("names the field at fault", () => {
    const cases = [
      [{ config: { Env: "PATH=/" } }, /config\.Env: it is a string, want a list of texts/],
      [{ config: { Cmd: ["a\0b"] } }, /config\.Cmd\[0\]: it has a NUL/],
      [{ rootfs: { type: "onion", diff_ids: [] } }, /rootfs\.type: it is "onion", want "layers"/],
      [{ rootfs: { type: "layers", diff_ids: ["sha256:x"] } }, /rootfs\.diff_ids\[0\]: .*digest/],
      [{ os: 1 }, /os: it is a number, want a text/],
    ] as const;
    for (const [document, message] of cases) {
      assert.throws(
        () => read(document),
        (error) => error instanceof InvalidArgumentError && message.test(error.message),
      );
    }
  });

  test("an inherited name is no field", () => {
    assert.equal(read(JSON.parse('{"__proto__": {"os": "windows"}}')).platform.os, "");
  });
});
