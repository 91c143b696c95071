import "./peers/enter-own-namespaces.ts";
import assert from "node:assert/strict";
import { execFile as execFileWithCallback } from "node:child_process";
import { mkdir, mkdtempDisposable, readFile, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { BuildError } from "@oci-worker/client/build-error";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const execFile = promisify(execFileWithCallback);

/** The cgroup parent that stands for slice ci.slice, where cgroups are named step-ID.scope. */
const parent = "ci.slice:step:";

/** Has this host taken, in the mount name space of this test alone, for one that systemd runs. */
async function pretendSystemd(): Promise<AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  if ((await mkdir("/run/systemd", { recursive: true })) !== undefined) {
    undo.defer(() => rmdir("/run/systemd"));
  }
  await execFile("mount", ["-t", "tmpfs", "tmpfs", "/run/systemd"]);
  undo.defer(async () => void (await execFile("umount", ["/run/systemd"])));
  await mkdir("/run/systemd/system");
  return undo.move();
}

/** Runs a step in a small image that prints its cgroups, beneath the one that the worker is set up for. */
async function cgroupsOf({ client }: Pick<WorkerPeer, "client">): Promise<string> {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage());
  const args = ["sh", "-c", "cat /proc/self/mountinfo /proc/self/cgroup"];
  const build = client.solve(definitionOf(run({ root: image(reference), args, env: ["PATH=/bin"] }).root));
  build.result.catch(() => undefined);
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  return output;
}

describe("a cgroup parent that is a slice of systemd's", () => {
  const config = `[worker.oci]\ndefaultCgroupParent = "${parent}"\n`;

  test("is systemd's to make cgroups in, where it runs the host", async () => {
    await using _systemd = await pretendSystemd();
    await using directory = await mkdtempDisposable(join(tmpdir(), "slices-"));
    const [runtime, trace] = [join(directory.path, "runtime"), join(directory.path, "trace")];
    // There is nobody whom runc could ask here; what it would have been asked is what counts.
    await writeFile(
      runtime,
      `#!/bin/sh\necho "$@" >>${trace}\nfor each; do shift; [ "$each" = --systemd-cgroup ] || set -- "$@" "$each"; done\nexec runc "$@"\n`,
      { mode: 0o755 },
    );
    {
      await using worker = await startWorker({ config, args: ["--oci-worker-binary", runtime] });
      await cgroupsOf(worker);
    }
    assert.match(await readFile(trace, "utf8"), / --systemd-cgroup run --bundle /);
    await using worker = await startWorker({ config });
    await assert.rejects(cgroupsOf(worker), (error) => {
      assert(error instanceof BuildError, String(error));
      assert.match(error.message, /systemd|dbus/i, "runc does not ask it");
      return true;
    });
  });

  test("is a name like any other where it does not, as for BuildKit", async () => {
    await using worker = await startWorker({ config });
    assert.match(await cgroupsOf(worker), /\/ci\.slice:step:[0-9a-z]{25}/);
  });
});
