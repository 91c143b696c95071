import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { APICapSchema } from "@oci-worker/api/buildkit/api-caps";
import { Capabilities } from "./capabilities.ts";

const cap = (ID: string, Enabled: boolean, DisabledReasonMsg = "") =>
  create(APICapSchema, { ID, Enabled, DisabledReasonMsg });

test("what is listed and enabled is there, all else is not, with the daemon's reason", () => {
  const caps = Capabilities.ofLlb([cap("a", true), cap("b", false, "switched off here"), cap("c", false)]);
  caps.require("a");
  assert.equal(caps.has("b"), false);
  assert.throws(() => caps.require("b"), /feature b is not supported by build server: switched off here/);
  assert.throws(() => caps.require("c"), /feature c is not supported by build server: it is disabled/);
  assert.throws(() => caps.require("d"), /feature d is not supported by build server$/);
});

test("a daemon that lists nothing has what daemons had before there were lists", () => {
  assert(Capabilities.ofLlb([]).has("source.image"));
  assert(!Capabilities.ofLlb([]).has("mergeop"));
  assert(Capabilities.ofGateway([]).has("resolveimage"));
  assert(!Capabilities.ofGateway([]).has("return"));
});
