import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { RootMounts } from "./root-mounts.ts";

/** The mounts of a snapshot on another one, and a place for them. */
async function overlay() {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "root-mounts-"))).path;
  const [lower, upper, work, target] = ["lower", "upper", "work", "target"].map((name) =>
    join(directory, name),
  ) as [string, string, string, string];
  for (const path of [lower, upper, work, target]) {
    await mkdir(path);
  }
  undo.defer(async () => void (await unmountBeneath(directory)));
  const owned = undo.move();
  const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
  return { options, upper, target, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function optionsAt(target: string): Promise<string> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.find((line) => line.includes(` ${target} `)) ?? "";
}

test("a root is not synced when it is unmounted, if its commit is", async () => {
  for (const syncsOnCommit of [true, false]) {
    await using on = await overlay();
    const mounts = [{ type: "overlay", source: "overlay", options: on.options }];
    await new RootMounts(syncsOnCommit, undefined).mount(mounts, on.target);
    await writeFile(join(on.target, "file"), "written");
    assert.equal((await optionsAt(on.target)).includes("volatile"), syncsOnCommit);
    assert.equal(await readFile(join(on.upper, "file"), "utf8"), "written");
  }
});

test("what cannot be mounted is told as it is", async () => {
  await using on = await overlay();
  const options = [...on.options, "no-such-option"];
  const roots = new RootMounts(true, undefined);
  await assert.rejects(
    roots.mount([{ type: "overlay", source: "overlay", options }], on.target),
    /no-such-option|EINVAL/,
  );
  assert.equal(await optionsAt(on.target), "");
  // It was not the option's fault.
  await roots.mount([{ type: "overlay", source: "overlay", options: on.options }], on.target);
  assert.match(await optionsAt(on.target), /volatile/);
});
