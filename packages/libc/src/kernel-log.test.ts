import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { readKernelLog } from "./kernel-log.ts";

test("the kernel's log is read whole, as often as one likes", () => {
  const mark = `kernel-log-test-${process.pid}`;
  for (const word of ["one", "two"]) {
    writeFileSync("/dev/kmsg", `${mark} ${word}\n`, { flag: "r+" });
  }
  for (const _ of [1, 2]) {
    const lines = readKernelLog().split("\n");
    const messages = lines.filter((line) => line.includes(mark));
    assert.deepEqual(
      messages.map((line) => line.replace(/^<\d+>\[ *\d+\.\d+\] /, "")),
      [`${mark} one`, `${mark} two`],
    );
  }
});

test("a process that may not read it is told so", () => {
  const program = `import { readKernelLog } from ${JSON.stringify(import.meta.resolve("./kernel-log.ts"))};
    try { readKernelLog(); console.log("read"); } catch ({ code, syscall }) { console.log(code, syscall); }`;
  const node = [process.execPath, "--input-type=module-typescript", "--eval", program];
  const isForAll = readFileSync("/proc/sys/kernel/dmesg_restrict", "utf8").trim() === "0";
  assert.equal(
    execFileSync("/usr/bin/setpriv", ["--bounding-set=-syslog", ...node], { encoding: "utf8" }),
    isForAll ? "read\n" : "EPERM syslog\n",
  );
});
