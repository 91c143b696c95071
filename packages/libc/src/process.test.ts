import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { forbidCoreDumps, isDumpable } from "./process.ts";

// For good, and for the whole process: nothing else may be tested in this file that wants a core.
test("a process that forbids it leaves no core file, and neither do the programs that it starts", async () => {
  assert.equal(isDumpable(), true);
  forbidCoreDumps();
  assert.equal(isDumpable(), false);
  const limits = await readFile("/proc/self/limits", "utf8");
  assert.match(limits, /^Max core file size +0 +0 +bytes/m);
  const shown = execFileSync("/bin/sh", ["-c", "ulimit -c; ulimit -Hc"], { encoding: "utf8" });
  assert.equal(shown, "0\n0\n");
});
