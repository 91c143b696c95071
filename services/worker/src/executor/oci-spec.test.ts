import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { type RuntimeSpec, type SpecInput, sandboxSpec } from "./oci-spec.ts";

/** A spec that BuildKit v0.11.6 has handed to runc, with its tracing taken out, which we do not offer. */
async function golden(name: string): Promise<RuntimeSpec> {
  const spec: RuntimeSpec = JSON.parse(
    await readFile(new URL(`testdata/${name}.json`, import.meta.url), "utf8"),
  );
  return {
    ...spec,
    process: {
      ...spec.process,
      env: spec.process.env.filter((variable) => !/^(OTEL_|TRACEPARENT)/.test(variable)),
    },
    mounts: spec.mounts.filter(({ destination }) => destination !== "/dev/otel-grpc.sock"),
  };
}

/** What the step of a golden spec asked for, as far as every one of them asked the same; names read out of it. */
function inputOf(spec: RuntimeSpec): SpecInput {
  const file = (destination: string) =>
    spec.mounts.find((mount) => mount.destination === destination)?.source ?? "";
  return {
    id: spec.linux.cgroupsPath.split("/").at(-1) ?? "",
    rootfsPath: spec.root.path,
    readonlyRootfs: false,
    args: spec.process.args,
    env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [0] },
    hostname: "",
    network: "host",
    resolvConfPath: file("/etc/resolv.conf"),
    hostsPath: file("/etc/hosts"),
    mounts: [],
    cgroupParent: "",
    limits: [],
    machine: "x64",
  };
}

const snapshots = "/var/lib/buildkit/runc-overlayfs/snapshots/snapshots";
const bind = (destination: string, source: string) => ({
  destination,
  type: "bind",
  source,
  options: ["rw", "rbind"],
});

describe("the spec of a sandboxed step equals BuildKit's", () => {
  const cases: readonly { readonly name: string; readonly asked: Partial<SpecInput> }[] = [
    { name: "hostname-1", asked: { hostname: "testtest" } },
    { name: "network-none-1", asked: { network: "empty" } },
    {
      name: "readonly-rootfs-1",
      asked: { readonlyRootfs: true, mounts: [bind("/mnt", `${snapshots}/4/fs`)] },
    },
    {
      name: "tmpfs-mount-1",
      asked: { mounts: [{ destination: "/foobar", type: "tmpfs", source: "tmpfs", options: ["nosuid"] }] },
    },
    {
      name: "ulimit-1",
      asked: {
        cwd: "/wd",
        limits: [{ name: "nofile", soft: 1062n, hard: 1062n }],
        mounts: [bind("/wd", `${snapshots}/3/fs`)],
      },
    },
    {
      name: "cgroup-parent-1",
      asked: { cwd: "/wd", cgroupParent: "foocgroup", mounts: [bind("/wd", `${snapshots}/3/fs`)] },
    },
  ];
  for (const { name, asked } of cases) {
    test(name, async () => {
      const want = await golden(name);
      const got = sandboxSpec({ ...inputOf(want), ...asked });
      assert.deepEqual(JSON.parse(JSON.stringify(got)), want);
    });
  }
});

describe("the spec of a sandboxed step", () => {
  const base: SpecInput = {
    id: "x1",
    rootfsPath: "/b/rootfs",
    readonlyRootfs: false,
    args: ["true"],
    env: [],
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [0] },
    hostname: "",
    network: "host",
    resolvConfPath: "/r",
    hostsPath: "/h",
    mounts: [],
    cgroupParent: "",
    limits: [],
    machine: "x64",
  };

  test("mounts what lies beneath another mount after it", () => {
    const { mounts } = sandboxSpec({
      ...base,
      mounts: [bind("/a/b", "/2"), bind("/c", "/3"), bind("/a", "/1")],
    });
    assert.deepEqual(
      mounts.slice(-3).map(({ destination }) => destination),
      ["/a", "/a/b", "/c"],
    );
  });

  test("puts its cgroup beneath the parent, also a slice of systemd", () => {
    const path = (cgroupParent: string) => sandboxSpec({ ...base, cgroupParent }).linux.cgroupsPath;
    assert.equal(path(""), "/buildkit/x1");
    assert.equal(path("foo/bar/"), "/foo/bar/buildkit/x1");
    assert.equal(path("/foo"), "/foo/buildkit/x1");
    assert.equal(path("ci.slice:step:"), "ci.slice:step:x1");
  });

  test("writes limits digit by digit, -1 as unlimited", () => {
    const limits = [{ name: "core", soft: 0n, hard: -1n }];
    assert.match(
      JSON.stringify(sandboxSpec({ ...base, limits })),
      /"rlimits":\[\{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0\}\]/,
    );
  });

  test("filters system calls only where it can name the machine's architectures", () => {
    assert.deepEqual(sandboxSpec({ ...base, machine: "arm64" }).linux.seccomp?.architectures, [
      "SCMP_ARCH_AARCH64",
      "SCMP_ARCH_ARM",
    ]);
    assert.equal(sandboxSpec({ ...base, machine: "mips" }).linux.seccomp, undefined);
  });
});
