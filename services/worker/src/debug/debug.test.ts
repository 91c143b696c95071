import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Metrics } from "./metrics.ts";

describe("figures", () => {
  test("are in the text format of Prometheus, whatever their labels say", () => {
    const metrics = new Metrics();
    const counter = metrics.counter("a_total", "Of a.");
    counter.add({ kind: 'x"\\\n' });
    counter.add({ kind: 'x"\\\n' });
    counter.add();
    const durations = metrics.durations("b_seconds", "Of b.");
    durations.add(0.5, { kind: "y" });
    durations.add(1, { kind: "y" });
    metrics.gauge("c", "Of c.", () => 7);
    assert.equal(
      metrics.render(),
      [
        "# HELP a_total Of a.",
        "# TYPE a_total counter",
        'a_total{kind="x\\"\\\\\\n"} 2',
        "a_total 1",
        "# HELP b_seconds Of b.",
        "# TYPE b_seconds summary",
        'b_seconds_sum{kind="y"} 1.5',
        'b_seconds_count{kind="y"} 2',
        "# HELP c Of c.",
        "# TYPE c gauge",
        "c 7",
        "",
      ].join("\n"),
    );
  });
});

test("what builds say is told to callers on this machine alone, and health follows the worker", async () => {
  const module = pathToFileURL(join(import.meta.dirname, "debug-server.ts")).href;
  const keys = pathToFileURL(join(import.meta.dirname, "../cache/key-texts.ts")).href;
  // In a network of its own, in which 192.0.2.1 is an address that is not the machine's to itself.
  const script = `
    const { execFileSync } = await import("node:child_process");
    execFileSync("ip", ["link", "set", "lo", "up"]);
    execFileSync("ip", ["address", "add", "192.0.2.1/32", "dev", "lo"]);
    const { serveDebug } = await import(${JSON.stringify(module)});
    const { KeyTexts } = await import(${JSON.stringify(keys)});
    let phase = "starting";
    const log = { info() {}, error() {} };
    const server = await serveDebug({ address: { host: "", port: 6060 }, phase: () => phase, metrics: () => "m 1\\n", keyTexts: new KeyTexts(log), log });
    const status = async (host, path) => (await fetch("http://" + host + ":6060" + path)).status;
    const seen = {};
    for (const path of ["/metrics", "/debug/heap", "/debug/cpu?seconds=1", "/debug/cache/all"]) {
      seen[path] = [await status("127.0.0.1", path), await status("192.0.2.1", path)];
    }
    seen.health = [];
    for (phase of ["starting", "serving", "stopping"]) {
      seen.health.push(await status("192.0.2.1", "/healthz"));
    }
    await server[Symbol.asyncDispose]();
    console.log(JSON.stringify(seen));
  `;
  const args = ["--user", "--map-root-user", "--net", process.execPath, "--input-type=module", "-e", script];
  const { stdout } = await promisify(execFile)("unshare", args);
  assert.deepEqual(JSON.parse(stdout), {
    "/metrics": [200, 200],
    "/debug/heap": [200, 403],
    "/debug/cpu?seconds=1": [200, 403],
    "/debug/cache/all": [409, 403],
    health: [503, 200, 503],
  });
});
