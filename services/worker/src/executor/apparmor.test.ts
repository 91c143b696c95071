import assert from "node:assert/strict";
import { mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { requireAppArmor } from "./apparmor.ts";

/** A host as the kernel would tell of it. */
async function host(enabled: string, profiles: string) {
  const directory = await mkdtempDisposable(join(tmpdir(), "security-"));
  const files = { enabled: join(directory.path, "enabled"), profiles: join(directory.path, "profiles") };
  await writeFile(files.enabled, enabled);
  await writeFile(files.profiles, profiles);
  return { files, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

describe("AppArmor", () => {
  test("that nobody asks for is not looked for", async () => {
    const nowhere = { enabled: "/nowhere/enabled", profiles: "/nowhere/profiles" };
    await requireAppArmor("", nowhere);
    await assert.rejects(requireAppArmor("x", nowhere), FailedPreconditionError);
  });

  test("must be enabled and have the profile", async () => {
    await using on = await host("Y\n", "docker-default (enforce)\nmy profile (complain)\n");
    await requireAppArmor("docker-default", on.files);
    await requireAppArmor("my profile", on.files);
    await assert.rejects(requireAppArmor("docker", on.files), (error) => {
      assert(error instanceof NotFoundError);
      assert.match(error.message, /^Cannot use AppArmor profile "docker": it is not loaded/);
      return true;
    });
    await rm(on.files.profiles);
    await assert.rejects(requireAppArmor("docker-default", on.files), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /there is no .*profiles, want securityfs mounted$/);
      return true;
    });
    await using off = await host("N\n", "");
    await assert.rejects(requireAppArmor("docker-default", off.files), FailedPreconditionError);
  });
});
