import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

test("ociw shows what the cache takes up and why it has gone, and prunes it as far as it is told", async () => {
  await using registry = await startRegistry();
  const base = image(await pushTo(registry, await createImage()));
  await using worker = await startWorker({ config: "[worker.oci]\ngc = false\n" });
  const ociw = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)(program, ["--addr", worker.address, ...args]);
    return stdout;
  };
  const { root } = run({
    root: base,
    args: ["sh", "-c", "head -c 300000 /dev/zero > /big"],
    env: ["PATH=/bin"],
    mounts: [{ type: "cache", dest: "/cache", id: "deps", sharing: "shared" }],
  });
  await worker.client.solve(definitionOf(root)).result;
  const shown = await ociw("du");
  assert.match(shown, /^ID +TYPE +SIZE +USED +LAST USED +STATE\n/);
  assert.match(shown, /^cachemount-[0-9a-z]{25}\* +exec\.cachemount +[0-9.]+kB +1x +\d+s +reclaimable$/m);
  assert.match(shown, /^sha256:[0-9a-f]{12} +regular +[0-9.]+MB /m);
  assert.match(shown, /\nReclaimable: [0-9.]+MB\nTotal: +[0-9.]+MB\n$/);
  assert.match(
    await ociw("du", "-v", "--filter", "type==exec.cachemount"),
    /cached mount \/cache from exec sh -c/,
  );

  assert.equal(await ociw("prune", "--keep-duration", "1h"), "Total: 0B\n");
  assert.equal(await ociw("prune", "--keep-storage", "1GB"), "Total: 0B\n");
  const pruned = JSON.parse(await ociw("prune", "--filter", "type!=exec.cachemount", "--json"));
  assert.deepEqual(
    pruned.map(({ type, description }: { type: string; description: string }) => [
      type,
      description.slice(0, 11),
    ]),
    [
      ["regular", "mount / fro"],
      ["regular", "pulled from"],
      ["regular", "pulled from"],
    ],
  );
  assert.match(await ociw("prune"), /^cachemount-[0-9a-z]{25}\* .*\n\nTotal: [0-9.]+kB\n$/m);
  assert.deepEqual(JSON.parse(await ociw("du", "--json")), []);
  const [last, ...others] = JSON.parse(await ociw("removals", "--json"));
  assert.deepEqual([last.type, last.rule, others.length], ["exec.cachemount", undefined, 3]);
  assert.equal(last.why, "it keeps nothing that it covers");
  const told = await ociw("removals", "-n", "1");
  assert.match(told, /ago +cachemount-[0-9a-z]{25} +[0-9.]+kB +prune +cached mount \/cache from exec sh/);
  for (const [args, message] of [
    [
      ["prune", "--keep-storage", "lots"],
      /Cannot use --keep-storage "lots": want a size such as 500MB or 10GB/,
    ],
    [["prune", "--keep-duration", "1"], /Cannot use --keep-duration "1": want a time such as 90s, 24h or 7d/],
    [["du", "x"], /want --filter id==NAME/],
    [["du", "--filter", "type=="], /failed to parse diskusage filters \[type==\]/],
  ] as const) {
    await assert.rejects(ociw(...args), message);
  }
});
