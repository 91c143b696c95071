import assert from "node:assert/strict";
import { mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, NotFoundError, UnimplementedError } from "@oci-worker/errdefs";
import { requireHostSecurity } from "./host-security.ts";

/** A host as the kernel would tell of it. */
async function host(enabled: string, profiles: string) {
  const directory = await mkdtempDisposable(join(tmpdir(), "security-"));
  const files = { enabled: join(directory.path, "enabled"), profiles: join(directory.path, "profiles") };
  await writeFile(files.enabled, enabled);
  await writeFile(files.profiles, profiles);
  return { files, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

const profile = (apparmorProfile: string) => ({ apparmorProfile, selinux: false });

describe("a security module", () => {
  test("that nobody asks for is not looked for", async () => {
    const nowhere = { enabled: "/nowhere/enabled", profiles: "/nowhere/profiles" };
    await requireHostSecurity(profile(""), nowhere);
    await assert.rejects(requireHostSecurity(profile("x"), nowhere), FailedPreconditionError);
  });

  test("AppArmor must be enabled and have the profile", async () => {
    await using on = await host("Y\n", "docker-default (enforce)\nmy profile (complain)\n");
    await requireHostSecurity(profile("docker-default"), on.files);
    await requireHostSecurity(profile("my profile"), on.files);
    await assert.rejects(requireHostSecurity(profile("docker"), on.files), (error) => {
      assert(error instanceof NotFoundError);
      assert.match(error.message, /^Cannot use AppArmor profile "docker": it is not loaded/);
      return true;
    });
    await rm(on.files.profiles);
    await assert.rejects(requireHostSecurity(profile("docker-default"), on.files), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /there is no .*profiles, want securityfs mounted$/);
      return true;
    });
    await using off = await host("N\n", "");
    await assert.rejects(requireHostSecurity(profile("docker-default"), off.files), FailedPreconditionError);
  });

  test("SELinux is refused", async () => {
    const wanted = { apparmorProfile: "", selinux: true };
    await assert.rejects(requireHostSecurity(wanted), (error) => {
      assert(error instanceof UnimplementedError);
      assert.match(error.message, /--oci-worker-selinux=true: this worker gives steps no labels/);
      return true;
    });
  });
});
