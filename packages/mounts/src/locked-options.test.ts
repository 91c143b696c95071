import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { lockedOptions } from "./locked-options.ts";
import { mountAll, unmount } from "./mount.ts";

test("a bind mount in a user namespace keeps the flags that nobody may lift there", async () => {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "locked-")));
  const [source, target] = [join(path, "source"), join(path, "target")];
  await mkdir(source);
  await mkdir(target);
  const options = ["nosuid", "nodev", "noexec"];
  await mountAll([{ type: "tmpfs", source: "tmpfs", options }], source);
  undo.defer(() => unmount(source));
  assert.deepEqual(lockedOptions(source), [], "outside of a user namespace nothing is locked");
  const script = `
    import { readFileSync } from "node:fs";
    import { mountAll } from ${JSON.stringify(import.meta.resolve("./mount.ts"))};
    import { lockedOptions } from ${JSON.stringify(import.meta.resolve("./locked-options.ts"))};
    const [source, target] = ${JSON.stringify([source, target])};
    await mountAll([{ type: "bind", source, options: ["rbind", "ro"] }], target);
    const line = readFileSync("/proc/self/mountinfo", "utf8").split("\\n").find((each) => each.split(" ")[4] === target);
    console.log(JSON.stringify({ locked: lockedOptions(source), now: line.split(" ")[5].split(",") }));
  `;
  const args = ["--user", "--map-root-user", "--mount", process.execPath, "--input-type=module-typescript"];
  const { stdout } = await promisify(execFile)("unshare", [...args, "--eval", script]);
  const { locked, now } = JSON.parse(stdout);
  assert.deepEqual(locked, options);
  for (const option of ["ro", ...options]) {
    assert(now.includes(option), `${option} is not among ${now}`);
  }
});
