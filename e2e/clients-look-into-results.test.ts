import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BuildRef, Gateway } from "@oci-worker/client/gateway";
import { definitionOf, image, run, scratch } from "@oci-worker/llb/build";
import { createImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

/** Has a worker make a tree with `script`, and looks at it. */
async function lookAt(script: string, look: (gateway: Gateway, ref: BuildRef) => Promise<void>) {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage());
  await using worker = await startWorker();
  const build = worker.client.build(async (gateway) => {
    const { mounts } = run({
      root: image(reference),
      args: ["sh", "-c", script],
      env: ["PATH=/bin"],
      cwd: "/out",
      mounts: [{ type: "bind", dest: "/out", from: scratch }],
    });
    await look(gateway, await gateway.solve(definitionOf(mounts.get("/out") ?? assert.fail("no output"))));
    return undefined;
  });
  await build.result;
  await worker.assertClean();
}

describe("a client", () => {
  test("reads files, directories and entries of results", async () => {
    const script = [
      "mkdir -p dir/sub; echo hello > dir/file.txt; echo x > dir/other; touch dir/sub/deep.txt",
      "busybox chmod 640 dir/file.txt; busybox chown 5:6 dir/file.txt; busybox ln -s file.txt dir/link",
    ].join(";");
    await lookAt(script, async (gateway, ref) => {
      const text = async (path: string, range?: { offset: number; length: number }) =>
        Buffer.from(await gateway.readFile(ref, path, range)).toString();
      assert.equal(await text("/dir/file.txt"), "hello\n");
      assert.equal(await text("dir/link"), "hello\n");
      assert.equal(await text("dir/file.txt", { offset: 1, length: 3 }), "ell");
      assert.equal(await text("dir/file.txt", { offset: 4, length: 100 }), "o\n");
      assert.equal(await text("dir/file.txt", { offset: 100, length: 1 }), "");
      const names = async (path: string, pattern?: string) =>
        (await gateway.readDirectory(ref, path, pattern)).map(({ path: name }) => name);
      assert.deepEqual(await names("/dir"), ["file.txt", "link", "other", "sub"]);
      assert.deepEqual(await names("/dir", "*.txt"), ["file.txt"]);
      const stat = await gateway.stat(ref, "/dir/file.txt");
      assert.deepEqual(
        [stat?.path, stat?.mode, stat?.uid, stat?.gid, stat?.size],
        ["file.txt", 0o640, 5, 6, 6n],
      );
    });
  });

  test("is told what cannot be read, and led out of a result by no link", async () => {
    const script = [
      "mkdir dir; busybox mkfifo fifo; busybox ln -s /etc/hostname out; busybox ln -s ../../../.. up",
      "busybox ln -s loop loop; busybox truncate -s 17M large",
    ].join(";");
    await lookAt(script, async (gateway, ref) => {
      const refused = async (path: string, message: RegExp, range?: { offset: number; length: number }) =>
        await assert.rejects(gateway.readFile(ref, path, range), message);
      await refused("/nope", /"\/nope": no such file or directory$/);
      await refused("/out", /"\/out": no such file or directory$/);
      await refused("/dir", /it is no file$/);
      await refused("/fifo", /it is no file$/);
      await refused("/loop", /ELOOP$/);
      await refused("/large", /want at most \d+ at once, by ranges$/);
      await refused("/large", /want no negative numbers$/, { offset: -1, length: 1 });
      assert.equal((await gateway.readFile(ref, "/large", { offset: 17 << 20, length: 5 })).length, 0);
      assert.deepEqual(
        (await gateway.readDirectory(ref, "/up")).map(({ path }) => path),
        ["dir", "fifo", "large", "loop", "out", "up"],
      );
      await assert.rejects(gateway.readDirectory(ref, "/large"), /it is no directory$/);
      await assert.rejects(gateway.stat({ id: "no-such-result" }, "/"), /not found$/);
    });
  });
});
