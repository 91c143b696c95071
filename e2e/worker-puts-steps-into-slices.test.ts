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
import { cgroupsOfStep } from "./peers/cgroups.ts";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

const execFile = promisify(execFileWithCallback);

/** The cgroup parent that stands for slice ci.slice, where cgroups are named step-ID.scope. */
const parent = "ci.slice:step:";

/** Has this host taken, in the mount name space of this test alone, for one that systemd runs, or for another. */
async function pretend(systemd: "runs it" | "does not"): Promise<AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  if ((await mkdir("/run/systemd", { recursive: true })) !== undefined) {
    undo.defer(() => rmdir("/run/systemd"));
  }
  await execFile("mount", ["-t", "tmpfs", "tmpfs", "/run/systemd"]);
  undo.defer(async () => void (await execFile("umount", ["/run/systemd"])));
  if (systemd === "runs it") {
    await mkdir("/run/systemd/system");
  }
  return undo.move();
}

/** A small image in a registry. */
async function fixture() {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const root = image(await pushTo(registry, await createImage()));
  const owned = undo.move();
  return { root, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

describe("a cgroup parent that is a slice of systemd's", () => {
  const config = `[worker.oci]\ndefaultCgroupParent = "${parent}"\n`;

  test("is systemd's to make cgroups in, where it runs the host", async () => {
    await using on = await fixture();
    await using _systemd = await pretend("runs it");
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
      await cgroupsOfStep(worker, on);
    }
    assert.match(await readFile(trace, "utf8"), / --systemd-cgroup run --bundle /);
    // Where there is a real one it must not be reached, either.
    const environment = { DBUS_SYSTEM_BUS_ADDRESS: "unix:path=/nowhere" };
    await using worker = await startWorker({ config, environment });
    const { root } = run({ root: on.root, args: ["true"], env: ["PATH=/bin"] });
    await assert.rejects(worker.client.solve(definitionOf(root)).result, (error) => {
      assert(error instanceof BuildError, String(error));
      assert.match(error.message, /systemd|dbus/i, "runc does not ask it");
      return true;
    });
  });

  test("is a name like any other where it does not, as for BuildKit", async () => {
    await using on = await fixture();
    await using _none = await pretend("does not");
    await using worker = await startWorker({ config });
    assert.match(await cgroupsOfStep(worker, on), /\/ci\.slice:step:[0-9a-z]{25}$/m);
  });
});
