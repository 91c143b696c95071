import assert from "node:assert/strict";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { lgetxattr } from "@oci-worker/libc/xattr";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import type { RuntimeSpec } from "../oci-spec.ts";
import { fixture, run, step } from "../sample-image.ts";
import { parseLabel } from "./context.ts";
import { labelTree } from "./label-files.ts";

const runtime = join(import.meta.dirname, "sample-runtime.sh");

const selinux = {
  process: parseLabel("system_u:system_r:container_t:s0", "process"),
  file: parseLabel("system_u:object_r:container_file_t:s0", "file"),
};
const sharedLabel = "system_u:object_r:container_file_t:s0";

/** The label of a file as it is on disk, which the kernel keeps also where SELinux is not in force. */
const labelOf = (path: string) => lgetxattr(path, "security.selinux").toString();

/** Runs a step until its runtime has been given its spec. Disposing has it end. */
async function begin(on: Awaited<ReturnType<typeof fixture>>) {
  const what = step(on.image, ["wait"]);
  const told = Promise.withResolvers<RuntimeSpec>();
  let text = "";
  const ended = on.executor.run(
    what,
    {
      onOutput: (_stream, chunk) => {
        text += chunk.toString();
        if (isWhole(text)) {
          told.resolve(JSON.parse(text));
        }
      },
    },
    new AbortController().signal,
  );
  ended.catch(told.reject);
  const spec = await told.promise;
  const bundle = join(on.bundles, what.id);
  return {
    spec,
    bundle,
    [Symbol.asyncDispose]: async () => {
      await writeFile(join(bundle, "gate"), "\n");
      await ended;
    },
  };
}

function isWhole(json: string): boolean {
  try {
    JSON.parse(json);
    return true;
  } catch {
    return false;
  }
}

/** The spec that the runtime is given for a step that ends. */
async function specOf(
  on: Awaited<ReturnType<typeof fixture>>,
  more: Parameters<typeof step>[2] = {},
): Promise<RuntimeSpec> {
  return JSON.parse((await run(on.executor, step(on.image, ["true"], more))).stdout);
}

describe("a step where SELinux is in force", () => {
  test("has a label with categories that no other running step has, and so do its files", async () => {
    await using on = await fixture(runtime, { selinux });
    await using first = await begin(on);
    const { selinuxLabel = "" } = first.spec.process;
    const [, pair] = /^system_u:system_r:container_t:s0:(c\d+,c\d+)$/.exec(selinuxLabel) ?? [];
    const mountLabel = `system_u:object_r:container_file_t:s0:${pair}`;
    assert.equal(first.spec.linux.mountLabel, mountLabel);
    for (const name of ["resolv.conf", "hosts"]) {
      assert.equal(labelOf(join(first.bundle, name)), `${mountLabel}\0`);
    }
    const second = await specOf(on);
    assert.match(second.process.selinuxLabel ?? "", /^system_u:system_r:container_t:s0:c\d+,c\d+$/);
    assert.notEqual(second.process.selinuxLabel, selinuxLabel);
  });

  test("finds the files of its root and its mounts labelled, whatever other steps have made of them", async () => {
    await using on = await fixture(runtime, { selinux });
    const cache = join(on.path, "cache");
    await mkdir(join(cache, "deep"), { recursive: true });
    await writeFile(join(cache, "deep/file"), "");
    const mounts = [{ type: "bind", source: cache, options: ["rw", "rbind"] }];
    await specOf(on, {
      mounts: [{ kind: "snapshot", destination: "/cache", mounts, selector: "/", writable: true }],
    });
    for (const path of ["bin/busybox", "bin/sh", "etc"].map((name) => join(on.image, name))) {
      assert.equal(labelOf(path), `${sharedLabel}\0`, path);
    }
    for (const path of [cache, join(cache, "deep"), join(cache, "deep/file")]) {
      assert.equal(labelOf(path), `${sharedLabel}\0`, path);
    }
  });

  test("has the worker's own label if it is insecure", async () => {
    await using on = await fixture(runtime, { selinux });
    const spec = await specOf(on, { insecure: true });
    assert.equal(spec.process.selinuxLabel, undefined);
    assert.equal(spec.linux.mountLabel, "system_u:object_r:container_file_t:s0:c1022,c1023");
  });

  test("has no label if it is not to be", async () => {
    await using on = await fixture(runtime);
    const spec = await specOf(on);
    assert.equal(spec.process.selinuxLabel, undefined);
    assert.equal(spec.linux.mountLabel, undefined);
    assert.throws(() => labelOf(on.image), { code: "ENODATA" });
  });
});

test("a file system that takes no labels keeps its own", async () => {
  await using on = await fixture();
  const tree = join(on.path, "tree");
  await mkdir(tree);
  await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], tree);
  try {
    await writeFile(join(tree, "file"), "");
    await mountAll([{ type: "bind", source: tree, options: ["bind", "ro"] }], tree);
    await labelTree(tree, "u:r:t:s0");
    assert.throws(() => labelOf(join(tree, "file")), { code: "ENODATA" });
  } finally {
    await unmount(tree);
    await unmount(tree);
  }
});

test("no link that is in a tree leads to a file being labelled", async () => {
  await using on = await fixture();
  const [tree, outside] = [join(on.path, "tree"), join(on.path, "outside")];
  await mkdir(tree);
  await mkdir(outside);
  await writeFile(join(outside, "file"), "");
  await symlink(outside, join(tree, "directory"));
  await symlink(join(outside, "file"), join(tree, "file"));
  await labelTree(tree, "u:r:t:s0");
  await labelTree(join(tree, "directory"), "u:r:t:s0");
  assert.equal(labelOf(join(tree, "file")), "u:r:t:s0\0");
  for (const path of [outside, join(outside, "file")]) {
    assert.throws(() => labelOf(path), { code: "ENODATA" });
  }
  await rm(tree, { recursive: true });
});
