import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { hostPlatform } from "@oci-worker/oci/platform";
import { amd64Level } from "./amd64-level.ts";
import { type ProbedArchitecture, probedArchitectures, probeProgram } from "./probe-program.ts";
import { obstacleTo } from "./run-probe.ts";

const run = promisify(execFile);

const v2 = "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2";
const v3 = `${v2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave`;

test("the level of a processor is the highest of which it has all", () => {
  const level = (flags: string) => amd64Level(`processor\t: 0\nflags\t\t: fpu ${flags}\nbugs\t\t: none\n`);
  assert.equal(amd64Level(""), 1);
  assert.equal(level("sse4_2"), 1);
  assert.equal(level(v2), 2);
  assert.equal(level(v3), 3);
  assert.equal(level(v3.replace("popcnt ", "")), 1);
  assert.equal(level(`${v3} avx512f avx512bw avx512cd avx512dq avx512vl`), 4);
});

/** QEMU's names of the architectures, where they are other ones. */
const emulatorNames: Readonly<Partial<Record<ProbedArchitecture, string>>> = {
  amd64: "x86_64",
  "386": "i386",
  arm64: "aarch64",
  loong64: "loongarch64",
  mips64le: "mips64el",
};

describe("the least program", () => {
  for (const architecture of probedArchitectures) {
    test(`of ${architecture} runs and ends well, where there is such a processor`, async () => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
      const path = join(directory.path, "probe");
      await writeFile(path, probeProgram(architecture), { mode: 0o700 });
      await assert.doesNotReject(
        run(`qemu-${emulatorNames[architecture] ?? architecture}`, [path]),
        "install the Debian package qemu-user, if it is missing",
      );
    });
  }

  test("runs on the machine's own processor", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
    assert.equal(
      await obstacleTo(hostPlatform.architecture as ProbedArchitecture, directory.path),
      undefined,
    );
  });
});

test("platforms come and go with the emulators that the kernel is told of", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "platforms-"));
  // Stands for an emulator of IBM's machines: whatever it is to run, it ends well.
  const emulator = join(directory.path, "true");
  await copyFile("/bin/busybox", emulator);
  // A user name space of its own has emulators of its own (since Linux 6.7), so that the machine's stay as they are.
  const script = `
    const { writeFileSync } = await import("node:fs");
    const { execFileSync } = await import("node:child_process");
    const { HostPlatforms } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, "host-platforms.ts")).href)});
    const binfmt = "/proc/sys/fs/binfmt_misc";
    execFileSync("mount", ["-t", "binfmt_misc", "none", binfmt]);
    const host = new HostPlatforms(${JSON.stringify(join(directory.path, "probe"))}, 0, { debug() {} });
    const hasIt = async () => (await host.list()).some(({ architecture }) => architecture === "s390x");
    const seen = [await hasIt()];
    const magic = ${JSON.stringify(escaped(probeProgram("s390x").subarray(0, 20)))};
    writeFileSync(binfmt + "/register", ":e2e-s390x:M::" + magic + "::" + ${JSON.stringify(emulator)} + ":F");
    seen.push(await hasIt());
    writeFileSync(binfmt + "/e2e-s390x", "-1");
    seen.push(await hasIt());
    console.log(JSON.stringify(seen));
  `;
  const args = [
    "--user",
    "--map-root-user",
    "--mount",
    process.execPath,
    "--input-type=module",
    "-e",
    script,
  ];
  const { stdout } = await run("unshare", args);
  assert.deepEqual(JSON.parse(stdout), [false, true, false]);
});

/** As the kernel reads bytes in a registration (binfmt-misc.rst). */
function escaped(bytes: Buffer): string {
  return [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}
