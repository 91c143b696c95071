import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readdir, rmdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { unmount } from "@oci-worker/mounts/mount";
import { Rootfs } from "./rootfs.ts";

/** Puts a link to `outside` in the place of `directory` and takes it away again, for as long as it is not disposed of. */
async function swapForEver(directory: string, outside: string): Promise<AsyncDisposable> {
  await symlink(outside, `${directory}-link`);
  const thread = new Worker(
    `const { renameSync } = require("node:fs");
     const { workerData: path } = require("node:worker_threads");
     for (;;) {
       renameSync(path, path + "-aside");
       renameSync(path + "-link", path);
       renameSync(path, path + "-link");
       renameSync(path + "-aside", path);
     }`,
    { eval: true, workerData: directory },
  );
  return { [Symbol.asyncDispose]: async () => void (await thread.terminate()) };
}

test("what is shown is what was looked up, whoever puts links in its way at any moment (CVE-2024-23651)", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "rootfs-"));
  const [root, outside, shown] = ["root", "outside", "shown"].map((name) => join(directory.path, name));
  assert(root !== undefined && outside !== undefined && shown !== undefined);
  await mkdir(join(root, "sub/inner"), { recursive: true });
  await mkdir(outside);
  await writeFile(join(outside, "of the host"), "");
  using rootfs = new Rootfs(root);
  await using _swapping = await swapForEver(join(root, "sub"), outside);
  // So many of each: it was looked at while the directory was there, and while it was not.
  for (const counts = { seen: 0, refused: 0 }; counts.seen < 50 || counts.refused < 50; ) {
    const isThere = await rootfs.showAt("sub", shown).catch((error) => {
      assert(error instanceof InvalidArgumentError, String(error));
      return false;
    });
    counts[isThere ? "seen" : "refused"] += 1;
    if (isThere) {
      const names: readonly string[] = await readdir(shown);
      await unmount(shown);
      await rmdir(shown);
      assert.deepEqual(names, ["inner"]);
    }
  }
});
