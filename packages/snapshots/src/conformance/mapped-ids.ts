import assert from "node:assert/strict";
import { chown, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import { gidMappingLabel, uidMappingLabel } from "../id-mapping.ts";
import type { Labels } from "../labels.ts";
import { type Check, commitLayer, fails, listed, mounted } from "./subject.ts";

const mapped: Labels = { [uidMappingLabel]: "0:100000:65536", [gidMappingLabel]: "0:200000:65536" };

/** What the labels promise that ask for a snapshot with other ids: that of a container in a user namespace. */
export const mappedIDs: Readonly<Record<string, Check>> = {
  "a snapshot with mapped ids shows its parents' files with those of the host": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, async (path) => {
      await writeFile(join(path, "root's"), "");
      await writeFile(join(path, "user's"), "");
      await chown(join(path, "user's"), 1000, 33);
    });
    await commitLayer(subject, "child", "base", (path) => writeFile(join(path, "newer"), ""));
    for (const parent of ["base", "child"]) {
      for (const mounts of [
        await snapshotter.prepare(`active on ${parent}`, parent, mapped),
        await snapshotter.view(`view of ${parent}`, parent, mapped),
      ]) {
        await mounted(subject, mounts, async (path) => {
          assert.deepEqual(await ownerOf(path, "root's"), [100_000, 200_000]);
          assert.deepEqual(await ownerOf(path, "user's"), [101_000, 200_033]);
        });
      }
      await mounted(subject, await snapshotter.mounts(`active on ${parent}`), async (path) => {
        assert.deepEqual(await ownerOf(path, "."), [100_000, 200_000]);
      });
    }
    const mounts = await snapshotter.prepare("on nothing", undefined, mapped);
    await mounted(subject, mounts, async (path) => {
      assert.deepEqual(await ownerOf(path, "."), [100_000, 200_000]);
    });
    await mounted(subject, await snapshotter.prepare("unmapped", "child", {}), async (path) => {
      assert.deepEqual(await ownerOf(path, "root's"), [0, 0]);
    });
  },

  "labels that map ids are refused by every call, unless they are maps": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await snapshotter.prepare("key", "base", {});
    const before = await listed(snapshotter);
    for (const label of [uidMappingLabel, gidMappingLabel]) {
      for (const text of ["0:1000", "0:1000:1,upperdir=/etc", "1:1000:1", "0:4294967295:1", "0:1:0"]) {
        const labels = { ...mapped, [label]: text };
        await fails(snapshotter.prepare("new", "base", labels), InvalidArgumentError, label);
        await fails(snapshotter.view("new", "base", labels), InvalidArgumentError, label);
        await fails(snapshotter.commit("new", "key", labels), InvalidArgumentError, label);
        await fails(snapshotter.update("base", { replace: labels }), InvalidArgumentError, label);
        await fails(snapshotter.update("base", { merge: { [label]: text } }), InvalidArgumentError, label);
      }
      const alone = { [label]: mapped[label] ?? "" };
      await fails(snapshotter.prepare("new", "base", alone), InvalidArgumentError, label);
    }
    assert.deepEqual(await listed(snapshotter), before);
  },

  "labels that map ids stay as they are while a snapshot can be mounted": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, undefined, mapped);
    const mounts = await snapshotter.prepare("key", "base", mapped);
    const others = { ...mapped, [uidMappingLabel]: "0:5:1" };
    await fails(snapshotter.update("key", { replace: {} }), FailedPreconditionError, uidMappingLabel);
    await fails(snapshotter.update("key", { replace: others }), FailedPreconditionError, uidMappingLabel);
    await snapshotter.update("key", { replace: { ...mapped, a: "1" } });
    assert.deepEqual(await snapshotter.mounts("key"), mounts);
    // It is not mounted itself, and nobody inherits its labels.
    await snapshotter.update("base", { replace: {} });
  },
};

async function ownerOf(...names: string[]): Promise<[uid: number, gid: number]> {
  const { uid, gid } = await stat(join(...names));
  return [uid, gid];
}
