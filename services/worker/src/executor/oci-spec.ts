import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { HookName, IntelRdt } from "../cdi/container-edits.ts";
import type { NetworkNamespace } from "../network/network.ts";
import { cgroupsPath } from "./cgroups.ts";
import type { SpecDevice } from "./devices.ts";
import type { DeviceRule, Privileges } from "./privileges.ts";
import type { SeccompProfile } from "./seccomp.ts";
import type { StepLabels } from "./selinux/step-labels.ts";
import { type StepTracing, stepTraceSocket, withTracing } from "./step-tracing.ts";

/** A mount of the OCI runtime spec (config.md, "Mounts"). */
export interface SpecMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** A program of the host that the runtime runs (config.md, "POSIX-platform Hooks"). */
export interface SpecHook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** In seconds. */
  readonly timeout?: number;
}

export type SpecHooks = { readonly [Name in HookName]?: readonly SpecHook[] };

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

/** Everything that decides the spec of one step. */
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
  /** Undefined: nobody wants its spans. */
  readonly tracing: StepTracing | undefined;
  /** Whether the host has cgroups of version 2, where a step sees its own as the root. */
  readonly unifiedCgroups: boolean;
  /** Empty for the root of the cgroup tree. A systemd slice is written `name.slice:prefix:`. */
  readonly cgroupParent: string;
  readonly limits: readonly ResourceLimit[];
  readonly privileges: Privileges;
  /** Undefined without SELinux. */
  readonly labels: StepLabels | undefined;
}

/** A number that `JSON.stringify` writes digit by digit (ECMAScript, JSON.rawJSON). */
export interface RawJson {
  readonly rawJSON: string;
}

/** Ids of a container that are others on the host (config-linux.md, "User namespace mappings"). */
export interface IDMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/** config.json of the OCI runtime spec, what we write of it. */
export interface RuntimeSpec {
  readonly ociVersion: string;
  readonly process: {
    readonly terminal?: boolean;
    readonly user: ProcessUser;
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: Privileges["capabilities"];
    readonly apparmorProfile?: string;
    readonly selinuxLabel?: string;
    readonly rlimits?: readonly { readonly type: string; readonly hard: RawJson; readonly soft: RawJson }[];
  };
  readonly root: { readonly path: string; readonly readonly?: true };
  readonly hostname: string;
  readonly mounts: readonly SpecMount[];
  readonly hooks?: SpecHooks;
  readonly linux: {
    readonly resources?: { readonly devices: readonly DeviceRule[] };
    readonly cgroupsPath?: string;
    readonly namespaces: readonly { readonly type: string; readonly path?: string }[];
    readonly uidMappings?: readonly IDMapping[];
    readonly gidMappings?: readonly IDMapping[];
    readonly seccomp?: SeccompProfile;
    readonly mountLabel?: string;
    readonly devices?: readonly SpecDevice[];
    readonly maskedPaths?: readonly string[];
    readonly readonlyPaths?: readonly string[];
    readonly intelRdt?: IntelRdt;
  };
}

/** The name a step sees for its machine unless it asks for another. */
export const defaultHostname = "buildkitsandbox";

/** Of the runtime spec: the one that runc 1.1 and crun 1.8 both speak. */
const ociVersion = "1.0.2-dev";

/** Those of getrlimit(2), as LLB spells them. */
const limitNames: ReadonlySet<string> = new Set(
  "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split(
    " ",
  ),
);

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
];

/**
 * The spec of a step: its own pid, ipc, uts and mount name spaces, and what its privileges say. The same that BuildKit
 * gives to runc.
 */
export function runtimeSpec(input: SpecInput): RuntimeSpec {
  const { apparmorProfile, capabilities, deviceRules, devices, hidden, seccomp } = input.privileges;
  return {
    ociVersion,
    process: {
      user: input.user,
      args: input.args,
      env: input.tracing === undefined ? input.env : withTracing(input.env, input.tracing),
      cwd: input.cwd,
      capabilities,
      ...(apparmorProfile !== "" && { apparmorProfile }),
      ...(input.labels?.process && { selinuxLabel: input.labels.process }),
      ...(input.limits.length > 0 && { rlimits: input.limits.map(rlimit) }),
    },
    root: { path: input.rootfsPath, ...(input.readonlyRootfs && { readonly: true }) },
    hostname: input.hostname || defaultHostname,
    mounts: withoutDuplicates([
      ...kernelMounts,
      sysMount(input.privileges),
      bindFile(input.resolvConfPath, "/etc/resolv.conf"),
      bindFile(input.hostsPath, "/etc/hosts"),
      cgroupMount(input.privileges),
      ...input.mounts.toSorted((left, right) => compare(left.destination, right.destination)),
      ...(input.tracing === undefined ? [] : [traceSocketMount(input.tracing)]),
    ]),
    linux: {
      resources: { devices: deviceRules },
      cgroupsPath: cgroupsPath(input.cgroupParent, input.id),
      namespaces: [
        ...["pid", "ipc", "uts", "mount"].map((type) => ({ type })),
        ...networkNamespace(input.network),
        // With version 1 upstream gives none, so that tools find the paths that /proc/self/cgroup names.
        ...(input.unifiedCgroups ? [{ type: "cgroup" }] : []),
      ],
      ...(seccomp !== undefined && { seccomp }),
      ...(input.labels !== undefined && { mountLabel: input.labels.mount }),
      ...(devices.length > 0 && { devices }),
      ...hidden,
    },
  };
}

function sysMount({ writableSys }: Privileges): SpecMount {
  const options = ["nosuid", "noexec", "nodev", writableSys ? "rw" : "ro"];
  return { destination: "/sys", type: "sysfs", source: "sysfs", options };
}

function cgroupMount({ writableSys }: Privileges): SpecMount {
  const options = [writableSys ? "rw" : "ro", "nosuid", "noexec", "nodev"];
  return { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options };
}

function traceSocketMount({ socketPath }: StepTracing): SpecMount {
  return { destination: stepTraceSocket, type: "bind", source: socketPath, options: ["ro", "rbind"] };
}

/** Of mounts at one place the last, where the first was: a step may have a /dev/shm of its own. */
function withoutDuplicates(mounts: readonly SpecMount[]): SpecMount[] {
  return [...new Map(mounts.map((mount) => [mount.destination, mount])).values()];
}

/** Whether a mount shows what is elsewhere in the tree, and not a file system of its own. */
export function isBind({ options }: SpecMount): boolean {
  return options.some((option) => option === "bind" || option === "rbind");
}

/** The host's network is had by naming no name space; one without a path is a new one. */
function networkNamespace(network: NetworkNamespace) {
  if (network === "host") {
    return [];
  }
  return [{ type: "network", ...(network !== "empty" && { path: network.path }) }];
}

function bindFile(source: string, destination: string): SpecMount {
  return { destination, type: "bind", source, options: ["nosuid", "noexec", "nodev", "rbind", "ro"] };
}

/** The numbers are 64 bit and unsigned, -1 being RLIM_INFINITY; as JavaScript numbers the large ones would change. */
function rlimit({ name, hard, soft }: ResourceLimit) {
  if (!limitNames.has(name.toLowerCase())) {
    throw new InvalidArgumentError(
      `invalid ulimit type: ${JSON.stringify(name)}, want one of ${[...limitNames].join(", ")}`,
    );
  }
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
