import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { parseTraceParent } from "../traces/trace-context.ts";
import { ownCapabilities, sandboxCapabilities } from "./capabilities.ts";
import { insecureDevices } from "./devices.ts";
import { type RuntimeSpec, runtimeSpec, type SpecInput } from "./oci-spec.ts";
import { insecurePrivileges, type Privileges, sandboxPrivileges } from "./privileges.ts";
import { plainInput } from "./sample-spec.ts";
import { defaultSeccompProfile } from "./seccomp.ts";

/** A spec that BuildKit v0.11.6 has handed to runc, without the variable that no release of OpenTelemetry has read. */
async function buildkitSpec(name: string): Promise<RuntimeSpec> {
  const spec: RuntimeSpec = JSON.parse(
    await readFile(new URL(`testdata/${name}.json`, import.meta.url), "utf8"),
  );
  return {
    ...spec,
    process: {
      ...spec.process,
      env: spec.process.env.filter((variable) => !variable.startsWith("OTEL_TRACE_PARENT=")),
    },
  };
}

/** Capabilities are sets. Upstream lists fourteen twice for a step without a sandbox. */
function inOrder(spec: RuntimeSpec): RuntimeSpec {
  const sets = Object.entries(spec.process.capabilities).map(([set, names]) => [
    set,
    [...new Set(names)].sort(),
  ]);
  return { ...spec, process: { ...spec.process, capabilities: Object.fromEntries(sets) } };
}

/** What the step of a golden spec asked for, as far as every one of them asked the same; names read out of it. */
function inputOf(spec: RuntimeSpec): SpecInput {
  const file = (destination: string) =>
    spec.mounts.find((mount) => mount.destination === destination)?.source ?? "";
  const variable = (name: string) =>
    spec.process.env.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
  return {
    id: spec.linux.cgroupsPath?.split("/").at(-1) ?? "",
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
    tracing: {
      socketPath: file("/dev/otel-grpc.sock"),
      parent: parseTraceParent(variable("TRACEPARENT")),
    },
    unifiedCgroups: false,
    cgroupParent: "",
    limits: [],
    privileges: sandboxPrivileges("x64", ""),
    labels: undefined,
  };
}

const state = "/var/lib/buildkit/runc-overlayfs";
const bind = (destination: string, source: string) => ({
  destination,
  type: "bind",
  source,
  options: ["rw", "rbind"],
});

/** A step in /wd, with a snapshot or a cache mount there. */
const inWd = (source: string) => ({ cwd: "/wd", mounts: [bind("/wd", `${state}/${source}`)] });

/** What the step of each golden spec asked for beyond what every one of them did. */
const golden: Readonly<Record<string, Partial<SpecInput>>> = {
  "cache-mount-1": inWd("snapshots/snapshots/4/fs"),
  "cache-mount-2": inWd("snapshots/snapshots/5/fs"),
  "cgroup-parent-1": { ...inWd("snapshots/snapshots/3/fs"), cgroupParent: "foocgroup" },
  "cgroup-parent-2": inWd("cachemounts/buildkit1277850749"),
  "extra-hosts-1": {},
  "hostname-1": { hostname: "testtest" },
  "hostname-2": { hostname: "testtest" },
  "network-none-1": { network: "empty" },
  "readonly-rootfs-1": { readonlyRootfs: true, mounts: [bind("/mnt", `${state}/snapshots/snapshots/4/fs`)] },
  "secret-mount-1": {
    mounts: [
      {
        destination: "/run/secrets/mysecret",
        type: "bind",
        source: "/var/lib/buildkit/tmp/buildkit-secrets2456290729/ihb1ltde9ggoz5bnwoi5z2chm",
        options: ["ro", "rbind", "nodev", "nosuid", "noexec"],
      },
    ],
  },
  "secret-mount-2": {},
  "security-mode-1": {},
  "security-mode-2": {
    // The machine that it was made on had all but one, and no loop device in use.
    privileges: insecurePrivileges(
      ownCapabilities("CapPrm:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n"),
      insecureDevices(0),
    ),
  },
  "tmpfs-mount-1": {
    mounts: [{ destination: "/foobar", type: "tmpfs", source: "tmpfs", options: ["nosuid"] }],
  },
  "ulimit-1": {
    ...inWd("snapshots/snapshots/3/fs"),
    limits: [{ name: "nofile", soft: 1062n, hard: 1062n }],
  },
  "ulimit-2": inWd("cachemounts/buildkit259327670"),
};

describe("the spec of a step equals BuildKit's", () => {
  for (const [name, asked] of Object.entries(golden)) {
    test(name, async () => {
      const want = await buildkitSpec(name);
      const got = runtimeSpec({ ...inputOf(want), ...asked });
      assert.deepEqual(inOrder(JSON.parse(JSON.stringify(got))), inOrder(want));
    });
  }

  test("in every case that was recorded", async () => {
    const recorded = await readdir(new URL("testdata", import.meta.url));
    assert.deepEqual(
      recorded.toSorted(),
      Object.keys(golden).map((name) => `${name}.json`),
    );
  });
});

describe("the spec of a sandboxed step", () => {
  test("mounts what lies beneath another mount after it", () => {
    const { mounts } = runtimeSpec({
      ...plainInput,
      mounts: [bind("/a/b", "/2"), bind("/c", "/3"), bind("/a", "/1")],
    });
    assert.deepEqual(
      mounts.slice(-3).map(({ destination }) => destination),
      ["/a", "/a/b", "/c"],
    );
  });

  test("puts its cgroup beneath the parent, also a slice of systemd", () => {
    const path = (cgroupParent: string) => runtimeSpec({ ...plainInput, cgroupParent }).linux.cgroupsPath;
    assert.equal(path(""), "/buildkit/x1");
    assert.equal(path("foo/bar/"), "/foo/bar/buildkit/x1");
    assert.equal(path("/foo"), "/foo/buildkit/x1");
    assert.equal(path("ci.slice:step:"), "ci.slice:step:x1");
  });

  test("sees its own cgroup as the root, where there is one tree of them", () => {
    const typesOf = (unifiedCgroups: boolean) =>
      runtimeSpec({ ...plainInput, unifiedCgroups }).linux.namespaces.map(({ type }) => type);
    assert.deepEqual(typesOf(true), ["pid", "ipc", "uts", "mount", "cgroup"]);
    assert.deepEqual(typesOf(false), ["pid", "ipc", "uts", "mount"]);
  });

  test("writes limits digit by digit, -1 as unlimited", () => {
    const limits = [{ name: "core", soft: 0n, hard: -1n }];
    assert.match(
      JSON.stringify(runtimeSpec({ ...plainInput, limits })),
      /"rlimits":\[\{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0\}\]/,
    );
  });

  test("filters system calls only where it can name the machine's architectures", () => {
    const filterOf = (privileges: Privileges) => runtimeSpec({ ...plainInput, privileges }).linux.seccomp;
    assert.deepEqual(filterOf(sandboxPrivileges("arm64", ""))?.architectures, [
      "SCMP_ARCH_AARCH64",
      "SCMP_ARCH_ARM",
    ]);
    assert.equal(filterOf(sandboxPrivileges("mips", "")), undefined);
    assert.equal(defaultSeccompProfile(sandboxCapabilities, "x64", "Name:\tnode\n"), undefined);
  });

  test("is confined by the AppArmor profile, unless it is insecure", () => {
    const profileOf = (privileges: Privileges) =>
      runtimeSpec({ ...plainInput, privileges }).process.apparmorProfile;
    assert.equal(profileOf(sandboxPrivileges("x64", "docker-default")), "docker-default");
    assert.equal(profileOf(sandboxPrivileges("x64", "")), undefined);
    assert.equal(profileOf(insecurePrivileges()), undefined);
  });

  test("has its own mount in place of one that every step has", () => {
    const shm = { destination: "/dev/shm", type: "tmpfs", source: "tmpfs", options: ["size=1g"] };
    const { mounts } = runtimeSpec({ ...plainInput, mounts: [shm] });
    assert.deepEqual(
      mounts.filter(({ destination }) => destination === "/dev/shm"),
      [shm],
    );
    assert.equal(mounts.indexOf(shm), 3);
  });

  test("is refused limits and parents that cannot be", () => {
    const limits = [{ name: "patience", soft: 1n, hard: 1n }];
    assert.throws(
      () => runtimeSpec({ ...plainInput, limits }),
      /invalid ulimit type: "patience", want one of as, /,
    );
    assert.throws(
      () => runtimeSpec({ ...plainInput, cgroupParent: "a/../../b" }),
      /want a path without ".."/,
    );
  });
});
