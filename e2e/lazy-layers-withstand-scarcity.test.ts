import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { type LazyContainerd, withLazyContainerd } from "./peers/lazy-images.ts";
import { makeDisk } from "./peers/small-disk.ts";
import { killAfter } from "./peers/tree.ts";

const execute = promisify(execFile);
const [command, ...args] = killAfter;

const members = Array.from({ length: 16 }, (_, index): TarMember => {
  return { type: "file", name: `data-${index}`, content: randomBytes(1_000_000) };
});

/** Nothing is read before it is asked for, and a read that gets nothing fails soon. */
const onDemand = {
  lazy_prefetch: "false",
  lazy_background_fetch: "false",
  lazy_fetch_timeout_ms: "3000",
};

function sumOf(index: number): string {
  return createHash("md5")
    .update(members[index]?.content as Buffer)
    .digest("hex");
}

/** The sum of a file as another process reads it. */
async function read(path: string, index: number): Promise<string> {
  const { stdout } = await execute(command, [...args, "md5sum", `data-${index}`], { cwd: path });
  return stdout.slice(0, 32);
}

/** Why something cannot be read, by `ociw layers`. */
async function failures(on: LazyContainerd): Promise<string> {
  return JSON.stringify((await on.layers()).layers.flatMap(({ failure }) => failure ?? []));
}

for (const [type, mode] of [
  ["ext4", "erofs"],
  ["ext4", "erofs-loop"],
  ["tmpfs", "fuse"],
] as const) {
  describe(`a full disk, ${type}, lazy layers by ${mode}`, () => {
    test("fails what there is no room for, says so, and is over when there is room", async () => {
      await using disk = await makeDisk(type, 80);
      const options = { members, settings: { ...onDemand, lazy_mode: mode }, directory: disk.path };
      await withLazyContainerd(options, async (on) => {
        await on.rpull();
        await on.viewed(async (path) => {
          assert.equal(await read(path, 0), sumOf(0));
          await disk.fill();
          await assert.rejects(read(path, 8), /Input\/output error/);
          assert.match(await failures(on), /ENOSPC|no space/i);
          assert.equal(await read(path, 0), sumOf(0));
          await on.snapshotter.restart("kill");
          // Its database takes less than before.
          await disk.fill();
          await assert.rejects(read(path, 8), /Input\/output error/);
          assert.equal(await read(path, 0), sumOf(0));
          await disk.empty();
          for (const index of members.keys()) {
            assert.equal(await read(path, index), sumOf(index));
          }
          assert.equal(await failures(on), "[]");
        });
      });
    });
  });
}

describe("a registry that stops answering while lazy layers are mounted", () => {
  test("fails reads that need it, and only as long as it does", () =>
    withLazyContainerd({ members, settings: onDemand }, async (on) => {
      await on.rpull();
      await on.viewed(async (path) => {
        assert.equal(await read(path, 0), sumOf(0));
        on.registry.pause();
        await assert.rejects(read(path, 5), /Input\/output error/);
        assert.notEqual(await failures(on), "[]");
        assert.equal(await read(path, 0), sumOf(0));
        on.registry.resume();
        assert.equal(await read(path, 5), sumOf(5));
        assert.equal(await failures(on), "[]");
        await on.registry.stop();
        await assert.rejects(read(path, 10), /Input\/output error/);
        assert.equal(await read(path, 5), sumOf(5));
        await on.registry.start();
        assert.equal(await read(path, 10), sumOf(10));
        assert.equal(await failures(on), "[]");
      });
    }));
});
