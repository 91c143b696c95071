import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { formatReference } from "@oci-worker/oci/reference";
import { bundle } from "../deploy/bundle.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startSnapshotter } from "./peers/snapshotter.ts";
import { startWorker } from "./peers/worker.ts";

const run = promisify(execFile);

const undo = new AsyncDisposableStack();
let directory = "";

/** Far from the sources and from node_modules: what is missing in the bundle is missing. */
before(async () => {
  directory = undo.use(await mkdtempDisposable(join(tmpdir(), "bundled-"))).path;
  await bundle(directory);
});

after(() => undo.disposeAsync());

function programNamed(name: string): string {
  return join(directory, "bin", name);
}

test("the snapshotter serves, with its threads that copy, measure and delete trees", async () => {
  await using peer = await startSnapshotter("native", { program: programNamed("oci-snapshotter") });
  const { direct, root } = peer;
  // More than it would do without a thread.
  const names = Array.from({ length: 300 }, (_, index) => `file ${index}`);
  await using scratch = await mkdtempDisposable(join(tmpdir(), "bundled-content-"));
  const mounts = await direct.prepare("filling", undefined, {});
  {
    await using mounted = await mountTemporarily(mounts, scratch.path);
    await Promise.all(names.map((name) => writeFile(join(mounted.path, name), name)));
  }
  await direct.commit("base", "filling", {});
  const [copy] = await direct.prepare("copy", "base", {});
  assert.equal(await readFile(join(copy?.source ?? "", "file 299"), "utf8"), "file 299");
  assert.equal((await direct.usage("copy")).inodes, 301n);
  await direct.remove("copy");
  await direct.cleanup();
  assert.equal((await readdir(join(root, "snapshots"))).length, 1);
  assert.deepEqual(
    peer.log.filter((line) => Number(JSON.parse(line).level) >= 40),
    [],
  );
});

test("the worker starts the other two, unpacks an image and runs what the command line asks for", async () => {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage({ files: { "/etc/greeting": "hello\n" } }));
  await using worker = await startWorker({ program: programNamed("oci-worker") });
  const args = ["--addr", worker.address, "run", "--progress", "quiet", formatReference(reference)];
  const { stdout } = await run(programNamed("ociw"), [...args, "--", "cat", "/etc/greeting"]);
  assert.equal(stdout, "hello\n");
});

test("the command line converts an image, in its thread", async () => {
  await using registry = await startRegistry();
  const reference = formatReference(await pushTo(registry, await createImage()));
  const target = `${registry.host}/test/lazy:1`;
  const { stdout } = await run(programNamed("ociw"), ["convert", "--progress", "quiet", reference, target]);
  assert.match(stdout, new RegExp(`^${target}@sha256:[0-9a-f]{64}\n$`));
});

test("each of them tells its flags", async () => {
  for (const name of await readdir(join(directory, "bin"))) {
    const { stdout } = await run(programNamed(name), ["--help"]);
    assert.match(stdout, new RegExp(`^Usage: ${name} `));
  }
});
