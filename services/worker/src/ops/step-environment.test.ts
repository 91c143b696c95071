import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MetaSchema } from "@oci-worker/api/buildkit/llb";
import { stepEnvironment } from "./step-environment.ts";

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

test("a step has a path, its own if it says one", () => {
  assert.deepEqual(stepEnvironment(create(MetaSchema, { env: ["A=1"] })), [defaultPath, "A=1"]);
  assert.deepEqual(stepEnvironment(create(MetaSchema, { env: ["A=1", "PATH=/x"] })), ["A=1", "PATH=/x"]);
  assert.deepEqual(stepEnvironment(create(MetaSchema, { env: ["PATHS=/x"] })), [defaultPath, "PATHS=/x"]);
});

test("proxies are there in both spellings, after what the step says itself", () => {
  const proxyEnv = { httpProxy: "http://p:1", noProxy: "localhost" };
  assert.deepEqual(stepEnvironment(create(MetaSchema, { env: ["PATH=/x"], proxyEnv })), [
    "PATH=/x",
    "HTTP_PROXY=http://p:1",
    "http_proxy=http://p:1",
    "NO_PROXY=localhost",
    "no_proxy=localhost",
  ]);
});
