import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { freePort } from "./peers/free-port.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

/** The values of all samples in the text format of Prometheus, by name and labels. */
function samplesOf(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const [, name = "", value] =
        /^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)+\})?) (\S+)$/.exec(line) ?? [];
      assert(name !== "", `${line} is no sample`);
      return [name, Number(value)];
    }),
  );
}

test("a worker tells operators how it is, what it has done and what it is at", async () => {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage());
  const port = await freePort();
  const url = (path: string) => `http://127.0.0.1:${port}${path}`;
  await using worker = await startWorker({ environment: { BUILDKITD_DEBUGADDR: `127.0.0.1:${port}` } });
  const build = (script: string) => {
    const step = run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"] });
    return worker.client.solve(definitionOf(step.root)).result;
  };

  const health = await fetch(url("/healthz"));
  assert.deepEqual([health.status, await health.text()], [200, "ok\n"]);

  await build("true");
  await build("true");
  await assert.rejects(build("exit 3"));
  const response = await fetch(url("/metrics"));
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const samples = samplesOf(await response.text());
  const value = (name: string) => samples.get(name);
  assert.equal(value('ociworker_build_duration_seconds_count{outcome="done"}'), 2);
  assert.equal(value('ociworker_build_duration_seconds_count{outcome="failed"}'), 1);
  assert.equal(value("ociworker_builds_running"), 0);
  assert.equal(value('ociworker_operation_duration_seconds_count{kind="exec",outcome="done"}'), 1);
  assert.equal(value('ociworker_operation_duration_seconds_count{kind="exec",outcome="failed"}'), 1);
  assert.equal(value("ociworker_operations_running"), 0);
  assert((value('ociworker_cache_lookups_total{result="hit"}') ?? 0) >= 1);
  assert((value('ociworker_cache_lookups_total{result="miss"}') ?? 0) >= 2);
  const solve =
    'grpc_server_handling_seconds_count{grpc_service="moby.buildkit.v1.Control",grpc_method="Solve"';
  assert.equal(value(`${solve},grpc_code="OK"}`), 2);
  // A client's session ends a moment after its build.
  const attached = async () =>
    samplesOf(await (await fetch(url("/metrics"))).text()).get("ociworker_sessions_attached");
  while ((await attached()) !== 0) {
    await setImmediate();
  }
  for (const name of ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"]) {
    assert((value(name) ?? 0) > 0, name);
  }

  const heap = await fetch(url("/debug/heap"));
  assert("snapshot" in ((await heap.json()) as object));
  const profile = await fetch(url("/debug/cpu?seconds=1"));
  assert("samples" in ((await profile.json()) as object));

  const refusals = [
    ["/debug/cpu?seconds=0", 409, /seconds is "0", want 1 to 300/],
    ["/nowhere", 404, /\/metrics {2}figures/],
  ] as const;
  for (const [path, status, message] of refusals) {
    const refused = await fetch(url(path));
    assert.equal(refused.status, status);
    assert.match(await refused.text(), message);
  }
  assert.equal((await fetch(url("/metrics"), { method: "POST" })).status, 405);
});
