import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { unixChannel } from "./client/channel.ts";
import { serving } from "./echo/serving.ts";
import { HealthService } from "./health.ts";

test("health is told for the server and each of its services, and is not for others", async () => {
  const service = new HealthService(["echo.v1.Echo"]);
  await using server = await serving({}, { implementations: [service.implementation] });
  using channel = unixChannel(server.path);
  const health = createClient(Health, channel);
  for (const name of ["", "echo.v1.Echo"]) {
    assert.equal((await health.check({ service: name })).status, ServingStatus.SERVING);
  }
  await assert.rejects(health.check({ service: "other" }), { code: Code.NotFound });
});

test("a watcher is told when the server stops", async () => {
  const service = new HealthService([]);
  await using server = await serving({}, { implementations: [service.implementation] });
  using channel = unixChannel(server.path);
  const seen: ServingStatus[] = [];
  for await (const { status } of createClient(Health, channel).watch({})) {
    seen.push(status);
    service.stop();
  }
  assert.deepEqual(seen, [ServingStatus.SERVING, ServingStatus.NOT_SERVING]);
  assert.equal((await createClient(Health, channel).check({})).status, ServingStatus.NOT_SERVING);
});
