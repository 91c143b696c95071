import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { BuildKitClient } from "@oci-worker/client";
import { startProcess } from "./peers/process.ts";
import { startUserNamespace } from "./peers/user-namespace.ts";
import { workerPlace, workerProgram } from "./peers/worker.ts";

const binfmt = "/proc/sys/fs/binfmt_misc";

/** How a program for IBM's machines begins (elf.h: 64 bits, big-endian, EM_S390), as the kernel reads it (binfmt-misc.rst). */
const magic = `\\x7fELF\\x02\\x02\\x01${"\\x00".repeat(9)}\\x00\\x02\\x00\\x16`;

/** A worker in a user name space, which has emulators of its own (since Linux 6.7), so that the machine's stay as they are. */
async function startInside(config: string) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "emulators-"))).path;
  const { enter } = undo.use(await startUserNamespace());
  const inside = async (script: string) => {
    const [program = "", ...args] = [...enter, "sh", "-c", script];
    await promisify(execFile)(program, args);
  };
  await inside(`mount -t binfmt_misc none ${binfmt}`);
  // Stands for an emulator: whatever it is to run, it ends well.
  const emulator = join(directory, "true");
  await copyFile("/bin/busybox", emulator);
  const place = workerPlace(directory);
  const args = ["--oci-worker-snapshotter", "native"];
  const { program, ready, ...rest } = await workerProgram(place, { config, args });
  const [entering = "", ...into] = enter;
  undo.use(await startProcess({ ...rest, program: entering, args: [...into, program, ...rest.args], ready }));
  const client = undo.use(new BuildKitClient(place.address));
  const owned = undo.move();
  return {
    /** Whether clients are told that it builds for the machines that the emulator is for. */
    buildsForIt: async () => {
      const [worker] = await client.workers();
      return worker?.platforms.some(({ architecture }) => architecture === "s390x") ?? false;
    },
    register: () => inside(`printf '%s' ':e2e:M::${magic}::${emulator}:F' > ${binfmt}/register`),
    unregister: () => inside(`echo -1 > ${binfmt}/e2e`),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe("an emulator", () => {
  test("is found when clients ask, and when it has gone, too", async () => {
    await using worker = await startInside("");
    assert.equal(await worker.buildsForIt(), false);
    await worker.register();
    assert.equal(await worker.buildsForIt(), true);
    await worker.unregister();
    assert.equal(await worker.buildsForIt(), false);
  });

  for (const maxAge of ['"1h"', "-1"]) {
    test(`is looked for no more often than the operator wants: ${maxAge}`, async () => {
      await using worker = await startInside(`[system]\nplatformsCacheMaxAge = ${maxAge}\n`);
      assert.equal(await worker.buildsForIt(), false);
      await worker.register();
      assert.equal(await worker.buildsForIt(), false);
    });
  }
});
