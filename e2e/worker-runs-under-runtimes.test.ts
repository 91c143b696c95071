import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtempDisposable, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import type { BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import { CanceledError } from "@oci-worker/errdefs";
import { definitionOf, image, type RunOptions, run } from "@oci-worker/llb/build";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { makeDisk } from "./peers/small-disk.ts";
import { startWorker, type WorkerOptions, type WorkerPeer } from "./peers/worker.ts";

const crun = join(import.meta.dirname, "../services/worker/src/executor/sample-crun.sh");

/** A step in a small image of `registry`. */
async function step(registry: RegistryPeer, script: string, more: Partial<RunOptions> = {}) {
  const reference = await pushTo(registry, await createImage());
  return definitionOf(
    run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root,
  );
}

/** Solves to the end, `onOutput` told what the steps write. */
async function solve(
  { client }: WorkerPeer,
  definition: Awaited<ReturnType<typeof step>>,
  options: BuildOptions = {},
  onOutput: (all: string) => void = () => undefined,
): Promise<string> {
  const build = client.solve(definition, options);
  build.result.catch(() => undefined);
  let output = "";
  for await (const { logs } of build.status) {
    for (const { data } of logs) {
      output += Buffer.from(data).toString();
      onOutput(output);
    }
  }
  await build.result;
  return output;
}

function isBuildError(message: RegExp) {
  return (error: unknown) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, message);
    return true;
  };
}

for (const runtime of ["runc", crun]) {
  describe(`a worker with ${basename(runtime)}`, () => {
    const options: WorkerOptions = { args: ["--oci-worker-binary", runtime] };

    test("runs steps, tells how they fail, and kills them", async () => {
      await using registry = await startRegistry();
      await using worker = await startWorker(options);
      const secrets: BuildOptions = { secrets: () => Promise.resolve(Buffer.from("s3cret")) };
      const mounts: RunOptions["mounts"] = [
        { type: "cache", dest: "/cache", id: "c" },
        { type: "tmpfs", dest: "/tmp/memory", sizeBytes: 1 << 20 },
        { type: "secret", dest: "/run/secret", id: "s" },
      ];
      const script = "echo in > /cache/file; cat /cache/file /run/secret; stat -fc %T /tmp/memory; id -u";
      assert.equal(
        await solve(worker, await step(registry, script, { mounts }), secrets),
        "in\ns3crettmpfs\n0\n",
      );
      assert.equal(await solve(worker, await step(registry, "id -u", { user: "7:8" })), "7\n");
      const failing = await step(registry, "exit 42");
      await assert.rejects(
        solve(worker, failing),
        isBuildError(/did not complete successfully: exit code: 42$/),
      );
      const absent = await step(registry, "", { args: ["no-such-command"] });
      await assert.rejects(
        solve(worker, absent),
        isBuildError(/no-such-command.* not found in \$PATH.*: exit code: 127$/s),
      );

      const controller = new AbortController();
      const endless = await step(registry, "trap '' TERM; echo started; sleep 3000");
      const canceling = solve(worker, endless, { signal: controller.signal }, () => controller.abort());
      await assert.rejects(canceling, CanceledError);
      await worker.assertClean();
    });

    test("removes the steps that it was running when it was killed", async () => {
      await using registry = await startRegistry();
      await using state = await mkdtempDisposable(join(tmpdir(), "worker-"));
      const endless = await step(registry, "echo started; sleep 3000");
      {
        await using worker = await startWorker({ ...options, directory: state.path });
        const killed = Promise.withResolvers<void>();
        const building = solve(worker, endless, {}, () => {
          killed.resolve(worker.process.kill());
        }).catch(() => undefined);
        await killed.promise;
        await building;
        await using again = await startWorker({ ...options, directory: state.path });
        await again.assertClean();
      }
    });
  });
}

describe("a worker", () => {
  test("takes buildkit-runc before runc", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "path-"));
    const real = execFileSync("sh", ["-c", "command -v runc"]).toString().trim();
    await symlink(real, join(directory.path, "buildkit-runc"));
    await writeFile(join(directory.path, "runc"), "#!/bin/sh\nexit 5\n");
    await chmod(join(directory.path, "runc"), 0o755);
    await using registry = await startRegistry();
    const PATH = `${directory.path}:${process.env["PATH"]}`;
    await using worker = await startWorker({ environment: { PATH } });
    assert.equal(await solve(worker, await step(registry, "echo ran")), "ran\n");
  });

  test("whose disk a step fills tells that, leaves nothing, and goes on", async () => {
    await using registry = await startRegistry();
    await using disk = await makeDisk("ext4", 64);
    const directory = join(disk.path, "worker");
    await mkdir(directory);
    await using worker = await startWorker({ directory });
    assert.equal(await solve(worker, await step(registry, "echo before")), "before\n");
    let output = "";
    const filling = await step(registry, "yes > /file");
    await assert.rejects(
      solve(worker, filling, {}, (all) => {
        output = all;
      }),
      isBuildError(/exit code: 1$/),
    );
    assert.match(output, /No space left on device/);
    await worker.assertClean();
    // What has been removed is deleted in the background; this waits for it.
    await using snapshotter = openProxy(join(worker.root, "snapshotter.sock"), { snapshotter: "auto" });
    await snapshotter.cleanup();
    assert.equal(await solve(worker, await step(registry, "echo after")), "after\n");

    // Full before the step: what there is to write for it has no room.
    await disk.fill();
    await assert.rejects(
      solve(worker, await step(registry, "echo full")),
      isBuildError(/no space left|database or disk is full|ENOSPC/i),
    );
    await disk.empty();
    await worker.assertClean();
    assert.equal(await solve(worker, await step(registry, "echo again")), "again\n");
  });
});
