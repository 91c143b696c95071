import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runtimeSpec } from "./oci-spec.ts";
import { insecurePrivileges } from "./privileges.ts";
import { rootlessSpec } from "./rootless-spec.ts";
import { plainInput } from "./sample-spec.ts";

const spec = (insecure = false) =>
  runtimeSpec({
    ...plainInput,
    mounts: [{ destination: "/sys/kernel/debug", type: "tmpfs", source: "tmpfs", options: [] }],
    cgroupParent: "ci",
    ...(insecure ? { privileges: insecurePrivileges() } : {}),
  });

describe("the spec of a step in a user namespace", () => {
  test("has no cgroup, no device and nothing at /sys", () => {
    for (const insecure of [false, true]) {
      const { linux, mounts } = rootlessSpec(spec(insecure), undefined);
      assert.deepEqual(
        Object.keys(linux).filter((key) => /^(resources|cgroupsPath|devices)$/.test(key)),
        [],
      );
      assert.deepEqual(
        mounts.filter(({ destination }) => destination.startsWith("/sys")),
        [],
      );
    }
  });

  test("is the same in all else", () => {
    const { linux, mounts, ...rest } = rootlessSpec(spec(), undefined);
    const { linux: hostLinux, mounts: hostMounts, ...hostRest } = spec();
    assert.deepEqual(rest, hostRest);
    assert.deepEqual(linux.namespaces, hostLinux.namespaces);
    assert.deepEqual(linux.seccomp, hostLinux.seccomp);
    assert.deepEqual(linux.maskedPaths, hostLinux.maskedPaths);
    assert.deepEqual(
      mounts,
      hostMounts.filter(({ destination }) => !destination.startsWith("/sys")),
    );
  });

  test("without a sandbox for processes has the worker's /proc, and is in an IPC name space that is known", () => {
    const { linux, mounts } = rootlessSpec(spec(), "/b/processes");
    assert.deepEqual(mounts[0], { destination: "/proc", type: "bind", source: "/proc", options: ["rbind"] });
    assert.equal(mounts.filter(({ destination }) => destination === "/proc").length, 1);
    assert.deepEqual(linux.namespaces, [
      { type: "ipc", path: "/b/processes" },
      { type: "uts" },
      { type: "mount" },
    ]);
    assert.deepEqual(linux.maskedPaths, ["/sys/firmware"]);
    assert.deepEqual(linux.readonlyPaths, []);
  });
});
