import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { withLazyContainerd } from "./peers/lazy-images.ts";
import { endLazyMounts } from "./peers/lazy-mounts.ts";
import { killAfter, treeAt } from "./peers/tree.ts";
import { big, members } from "./peers/tree-members.ts";

const execute = promisify(execFile);
const [command, ...args] = killAfter;

const manyFiles: readonly TarMember[] = Array.from({ length: 240 }, (_, index) => ({
  type: "file",
  name: `data-${index}`,
  content: randomBytes(20_000 + 1000 * index),
}));

/** Nothing is read before it is asked for, and a read that gets nothing fails soon. */
const onDemand = {
  lazy_prefetch: "false",
  lazy_background_fetch: "false",
  lazy_fetch_timeout_ms: "2000",
};

// On loop devices it is read as in the first way, through the same mount.
for (const mode of ["erofs", "fuse"]) {
  describe(`a lazy layer by ${mode}`, () => {
    test("fails to be read while its registry is away, says so, and is read when that is back", () =>
      withLazyContainerd({ members: manyFiles, settings: { ...onDemand, lazy_mode: mode } }, async (on) => {
        await on.rpull();
        await on.viewed(async (path) => {
          const read = (name: string) =>
            execute(command, [...args, "md5sum", name], { cwd: path }).then(({ stdout }) =>
              stdout.slice(0, 32),
            );
          const [first, second] = manyFiles.map(({ content }) => md5(content as Buffer));
          assert.equal(await read("data-0"), first);
          await on.line.cut();
          await assert.rejects(read("data-1"), /Input\/output error/);
          assert.equal(await read("data-0"), first);
          const failing = (await on.layers()).layers.find(({ failure }) => failure);
          assert(failing !== undefined, "a layer is failing");
          // What is at hand is at hand, also for the next process, which finds no registry either.
          await on.snapshotter.restart("kill");
          assert.equal(await read("data-0"), first);
          await assert.rejects(read("data-1"), /Input\/output error/);
          await on.line.mend();
          assert.equal(await read("data-1"), second);
          const mended = (await on.layers()).layers.filter(({ failure }) => failure);
          assert.deepEqual(mended, []);
        });
      }));

    test("is mounted again after the machine was restarted, without its registry", () =>
      withLazyContainerd({ members, settings: { lazy_mode: mode } }, async (on) => {
        await on.rpull();
        await on.viewed(async (path) => void (await treeAt(path)));
        await on.snapshotter.restart("stop", () => endLazyMounts(on.snapshotter.root));
        await on.line.cut();
        await on.viewed(async (path) => {
          const { stdout } = await execute(command, [...args, "cat", "data/linked"], { cwd: path });
          assert.equal(stdout, big.toString());
        });
      }));
  });
}

test("a lazy layer by fuse whose image is damaged on disk shows nothing of it, says so, and is made anew", () =>
  withLazyContainerd({ members: manyFiles, settings: { ...onDemand, lazy_mode: "fuse" } }, async (on) => {
    await on.rpull();
    await on.viewed(async (path) => {
      const read = async () => (await execute(command, [...args, "md5sum", "data-0"], { cwd: path })).stdout;
      await on.snapshotter.restart("kill", async () => {
        const layers = join(on.snapshotter.root, "lazy/layers");
        for (const name of await readdir(layers)) {
          await writeFile(join(layers, name, "meta.erofs"), "no image");
        }
      });
      await assert.rejects(read(), /Input\/output error/);
      const failing = (await on.layers()).layers.map(({ failure }) => failure);
      assert.match(failing.join("\n"), /its image .*meta\.erofs is damaged/);
      // Whoever wants it mounted has it made anew, for those too who have it mounted.
      await on.snapshotter.direct.view("look again", on.chain.at(-1) ?? "", {});
      assert.equal((await read()).slice(0, 32), md5(manyFiles[0]?.content as Buffer));
      await on.snapshotter.direct.remove("look again");
    });
  }));

for (const mode of ["erofs", "erofs-loop"]) {
  describe(`a lazy layer by ${mode}`, () => {
    test("is read without the snapshotter as soon as it is complete", () =>
      withLazyContainerd({ members, settings: { lazy_mode: mode } }, async (on) => {
        await on.rpull();
        const first = await on.snapshotter.said(/"msg":"complete layer is read past the snapshotter"/);
        await on.snapshotter.said(
          /"msg":"complete layer is read past the snapshotter"/,
          on.snapshotter.log.indexOf(first) + 1,
        );
        let expected: string[] = [];
        await on.viewed(async (path) => {
          expected = await treeAt(path);
        });
        await on.viewed(async (path) => {
          await on.snapshotter.restart("kill", async () => {
            // Nobody serves now.
            assert.deepEqual(await treeAt(path), expected);
          });
        });
        for (const name of on.chain.toReversed()) {
          await on.snapshotter.direct.remove(name);
        }
        await on.snapshotter.direct.cleanup();
        assert.deepEqual(await mountPointsBeneath(join(on.snapshotter.root, "snapshots")), []);
      }));
  });
}

function md5(content: Buffer): string {
  return createHash("md5").update(content).digest("hex");
}
