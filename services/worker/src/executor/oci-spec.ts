import type { NetworkNamespace } from "../network/network.ts";
import { sandboxCapabilities } from "./capabilities.ts";
import { defaultSeccompProfile, type SeccompProfile } from "./seccomp.ts";

/** A mount of the OCI runtime spec (config.md, "Mounts"). */
export interface SpecMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

export interface ResourceLimit {
  /** As in ulimit(1) and LLB: nofile, nproc, ... */
  readonly name: string;
  readonly soft: bigint;
  readonly hard: bigint;
}

/** Everything that decides the spec of one sandboxed step. */
export interface SpecInput {
  /** Names the container and its cgroup. */
  readonly id: string;
  readonly rootfsPath: string;
  readonly readonlyRootfs: boolean;
  readonly args: readonly string[];
  /** `NAME=value`, in order. */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: ProcessUser;
  /** Empty for {@link defaultHostname}. */
  readonly hostname: string;
  readonly network: NetworkNamespace;
  readonly resolvConfPath: string;
  readonly hostsPath: string;
  /** The step's own mounts, in any order. */
  readonly mounts: readonly SpecMount[];
  /** Empty for the root of the cgroup tree. A systemd slice is written `name.slice:prefix:`. */
  readonly cgroupParent: string;
  readonly limits: readonly ResourceLimit[];
  /** As in `process.arch`. */
  readonly machine: string;
}

/** A number that `JSON.stringify` writes digit by digit (ECMAScript, JSON.rawJSON). */
export interface RawJson {
  readonly rawJSON: string;
}

/** config.json of the OCI runtime spec, what we write of it. */
export interface RuntimeSpec {
  readonly ociVersion: string;
  readonly process: {
    readonly user: ProcessUser;
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: Readonly<Record<"bounding" | "effective" | "permitted", readonly string[]>>;
    readonly rlimits?: readonly { readonly type: string; readonly hard: RawJson; readonly soft: RawJson }[];
  };
  readonly root: { readonly path: string; readonly readonly?: true };
  readonly hostname: string;
  readonly mounts: readonly SpecMount[];
  readonly linux: {
    readonly resources: { readonly devices: readonly { readonly allow: boolean; readonly access: string }[] };
    readonly cgroupsPath: string;
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly seccomp?: SeccompProfile;
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
  };
}

/** The name a step sees for its machine unless it asks for another. */
export const defaultHostname = "buildkitsandbox";

/** Of the runtime spec: the one that runc 1.1 and crun 1.8 both speak. */
const ociVersion = "1.0.2-dev";

const kernelMounts: readonly SpecMount[] = [
  { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
  {
    destination: "/dev",
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
  },
  {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
  },
  {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
  },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
];

const cgroupMount: SpecMount = {
  destination: "/sys/fs/cgroup",
  type: "cgroup",
  source: "cgroup",
  options: ["ro", "nosuid", "noexec", "nodev"],
};

const maskedPaths = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/sys/firmware",
  "/proc/scsi",
];

const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/**
 * The spec of a step in the sandbox: its own pid, ipc, uts and mount name spaces, the default capabilities and
 * seccomp profile, no device but runc's default ones. The same that BuildKit gives to runc.
 */
export function sandboxSpec(input: SpecInput): RuntimeSpec {
  const seccomp = defaultSeccompProfile(sandboxCapabilities, input.machine);
  return {
    ociVersion,
    process: {
      user: input.user,
      args: input.args,
      env: input.env,
      cwd: input.cwd,
      capabilities: {
        bounding: sandboxCapabilities,
        effective: sandboxCapabilities,
        permitted: sandboxCapabilities,
      },
      ...(input.limits.length > 0 && { rlimits: input.limits.map(rlimit) }),
    },
    root: { path: input.rootfsPath, ...(input.readonlyRootfs && { readonly: true }) },
    hostname: input.hostname || defaultHostname,
    mounts: [
      ...kernelMounts,
      bindFile(input.resolvConfPath, "/etc/resolv.conf"),
      bindFile(input.hostsPath, "/etc/hosts"),
      cgroupMount,
      ...input.mounts.toSorted((left, right) => compare(left.destination, right.destination)),
    ],
    linux: {
      resources: { devices: [{ allow: false, access: "rwm" }] },
      cgroupsPath: cgroupsPath(input.cgroupParent, input.id),
      namespaces: [
        ...["pid", "ipc", "uts", "mount"].map((type) => ({ type })),
        ...networkNamespace(input.network),
      ],
      ...(seccomp !== undefined && { seccomp }),
      maskedPaths,
      readonlyPaths,
    },
  };
}

/** The host's network is had by naming no name space; one without a path is a new one. */
function networkNamespace(network: NetworkNamespace) {
  if (network === "host") {
    return [];
  }
  return [{ type: "network", ...(network !== "empty" && { path: network.path }) }];
}

/** Where the step's cgroup is: beneath the parent, in systemd's form if the parent is a slice. */
function cgroupsPath(parent: string, id: string): string {
  if (parent.includes(".slice") && parent.endsWith(":")) {
    return `${parent}${id}`;
  }
  return `/${[...parent.split("/").filter(Boolean), "buildkit", id].join("/")}`;
}

function bindFile(source: string, destination: string): SpecMount {
  return { destination, type: "bind", source, options: ["nosuid", "noexec", "nodev", "rbind", "ro"] };
}

/** The numbers are 64 bit and unsigned, -1 being RLIM_INFINITY; as JavaScript numbers the large ones would change. */
function rlimit({ name, hard, soft }: ResourceLimit) {
  return { type: `RLIMIT_${name.toUpperCase()}`, hard: unsigned(hard), soft: unsigned(soft) };
}

function unsigned(value: bigint): RawJson {
  return (JSON as typeof JSON & { rawJSON(text: string): RawJson }).rawJSON(
    BigInt.asUintN(64, value).toString(),
  );
}

/** A mount point must come before what is mounted beneath it; shorter strings sort first. */
function compare(left: string, right: string): number {
  return left < right ? -1 : Number(left > right);
}
