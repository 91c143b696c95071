import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { mountAll, mountTemporarily } from "@oci-worker/mounts/mount";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { Overlayfs } from "./overlayfs.ts";
import { probeOverlayfs } from "./probe.ts";

const run = promisify(execFile);
const settings = { mountOptions: [], upperdirLabel: false };

async function obstacleOn(root: string): Promise<string> {
  const finding = await probeOverlayfs(root, settings);
  assert("obstacle" in finding, "want an obstacle");
  return finding.obstacle;
}

describe("probeOverlayfs", () => {
  test("finds no obstacle on a file system that can, and leaves nothing there", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    assert((await probeOverlayfs(tmpfs.path, settings)) instanceof Overlayfs);
    assert.deepEqual(await readdir(tmpfs.path), []);
    assert.deepEqual(await mountPointsBeneath(tmpfs.path), [tmpfs.path]);
  });

  test("removes what a probe that was killed has left", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    const merged = join(tmpfs.path, "probe", "merged");
    await mkdir(merged, { recursive: true });
    await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], merged);
    await writeFile(join(merged, "file"), "");
    assert((await probeOverlayfs(tmpfs.path, settings)) instanceof Overlayfs);
    assert.deepEqual(await readdir(tmpfs.path), []);
  });

  test("tells why an overlay cannot be put on an overlay", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    const directories = ["lower", "upper", "work"].map((name) => join(tmpfs.path, name));
    await Promise.all(directories.map((directory) => mkdir(directory)));
    const [lower, upper, work] = directories;
    const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
    await using overlay = await mountTemporarily([{ type: "overlay", source: "overlay", options }], tmpdir());
    assert.match(await obstacleOn(overlay.path), /Cannot mount overlay/);
    assert.deepEqual(await readdir(overlay.path), []);
  });

  test("has overlays in a user namespace keep their records in attributes of users", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
    const script = `
      import { mountAll } from "@oci-worker/mounts/mount";
      import { probeOverlayfs } from ${JSON.stringify(join(import.meta.dirname, "probe.ts"))};
      const root = ${JSON.stringify(directory.path)};
      await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], root);
      const backend = await probeOverlayfs(root, { mountOptions: ["xino=off"], upperdirLabel: false });
      const mounts = backend.mounts?.({ kind: "active", directory: "/s/2", parents: ["/s/1"], labels: {} });
      process.stdout.write(JSON.stringify(mounts ?? backend));
    `;
    const { stdout } = await run(
      "unshare",
      ["--user", "--map-root-user", "--mount", process.execPath, "--input-type=module", "-e", script],
      { cwd: import.meta.dirname },
    );
    assert.deepEqual(JSON.parse(stdout)[0].options.slice(0, 3), ["index=off", "userxattr", "xino=off"]);
  });

  for (const name of ["a,b", "a:b", "a\\b", "a b", "a\nb"]) {
    test(`names the character of the path ${JSON.stringify(name)} that mount options cannot hold`, async () => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
      const root = join(directory.path, name);
      await mkdir(root);
      assert.match(await obstacleOn(root), /separates options/);
    });
  }
});
