import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  CacheSharingOpt,
  type ExecOp,
  ExecOpSchema,
  type MountSchema,
  MountType,
  NetMode,
  SecurityMode,
} from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** A process to run, its mounts on trees of kind `T`. */
export interface ExecOptions<T> {
  readonly root: T;
  /** The program and its arguments. */
  readonly args: readonly string[];
  /** `NAME=value`, in the order the process gets them. */
  readonly env?: readonly string[];
  /** Working directory; `/` unless given. */
  readonly cwd?: string;
  /** `user`, `user:group`, by name or number; root unless given. */
  readonly user?: string;
  readonly hostname?: string;
  /** Lines of its hosts file, beside those that every process has. */
  readonly extraHosts?: readonly ExtraHost[];
  readonly limits?: readonly ResourceLimit[];
  /** The cgroup that its own is beneath; as the worker is set up unless given. */
  readonly cgroupParent?: string;
  /** The exit codes with which the process has done what it should; 0 alone unless given, or if there are none. */
  readonly validExitCodes?: readonly number[];
  /** `sandbox` is what the worker is set up for. `host` needs the entitlement `network.host`. */
  readonly network?: "sandbox" | "host" | "none";
  /** `insecure` needs the entitlement `security.insecure`. */
  readonly security?: "sandbox" | "insecure";
  readonly readonlyRoot?: boolean;
  readonly mounts?: readonly MountOptions<T>[];
  readonly secretEnv?: readonly SecretVariable[];
  readonly devices?: readonly DeviceOptions[];
}

export interface ExtraHost {
  readonly host: string;
  readonly ip: string;
}

/** One of the limits of setrlimit(2). */
export interface ResourceLimit {
  /** As in ulimit(1) and docker run: nofile, nproc, core, ... */
  readonly name: string;
  /** -1 for no limit. */
  readonly soft: bigint;
  readonly hard: bigint;
}

/** A device of the Container Device Interface. It needs the entitlement `device`, unless the worker gives it to everybody. */
export interface DeviceOptions {
  /** `vendor/class=name`, `vendor/class=*`, `vendor/class` or the name of a class. */
  readonly name: string;
  /** Whether to go on without it if the worker does not have it. */
  readonly optional?: boolean;
}

/** An environment variable that holds a secret of the session. */
export interface SecretVariable {
  readonly name: string;
  readonly id: string;
  readonly optional?: boolean;
}

export type MountOptions<T> = BindMount<T> | CacheMount<T> | TmpfsMount | SessionMount;

/** A tree at `dest`. What the process writes to it is a result of the run, unless it is read-only or discarded. */
export interface BindMount<T> {
  readonly type: "bind";
  readonly dest: string;
  readonly from: T;
  /** The part of the tree that is mounted. */
  readonly selector?: string;
  readonly readonly?: boolean;
  /** Whether what the process writes to it is dropped. */
  readonly discarded?: boolean;
}

/** A directory that is kept from run to run. */
export interface CacheMount<T> {
  readonly type: "cache";
  readonly dest: string;
  readonly id: string;
  readonly sharing?: "shared" | "private" | "locked";
  /** What it holds at first. */
  readonly from?: T;
  /** The part of it that is mounted. */
  readonly selector?: string;
  readonly readonly?: boolean;
}

export interface TmpfsMount {
  readonly type: "tmpfs";
  readonly dest: string;
  readonly sizeBytes?: number;
}

/** A secret as a file, or the socket of an ssh agent: both come from the session while the process runs. */
export interface SessionMount {
  readonly type: "secret" | "ssh";
  readonly dest: string;
  readonly id: string;
  readonly uid?: number;
  readonly gid?: number;
  /** Permission bits; 0400 for secrets and 0600 for sockets unless given. */
  readonly mode?: number;
  readonly optional?: boolean;
}

type MountInit = MessageInitShape<typeof MountSchema>;

/** A mount on its way into the op, with what it asks of the worker. */
interface Written {
  readonly mount: MountInit;
  readonly caps: readonly string[];
  readonly hasOutput: boolean;
}

export interface WrittenExec {
  readonly exec: ExecOp;
  /** The features of the worker that it needs (BuildKit's solver/pb/caps.go). */
  readonly caps: readonly string[];
  /** Where the mounts are whose results are the op's outputs, in the order of their numbers. */
  readonly outputs: readonly string[];
}

/**
 * The exec op of `options`.
 *
 * @param inputOf the number of a tree among the inputs of the op, -1 for the empty one.
 * @throws {InvalidArgumentError} if there are no arguments or two mounts at one place.
 */
export function execOp<T>(options: ExecOptions<T>, inputOf: (tree: T) => number): WrittenExec {
  const { args, env = [], cwd = "/", user = "", hostname = "", validExitCodes = [] } = options;
  const { extraHosts = [], limits = [], cgroupParent = "" } = options;
  if (args.length === 0) {
    throw new InvalidArgumentError("Cannot run a process without arguments: want at least the program");
  }
  const root: BindMount<T> = {
    type: "bind",
    dest: "/",
    from: options.root,
    ...(options.readonlyRoot !== undefined && { readonly: options.readonlyRoot }),
  };
  // By destination, so that a mount comes before those inside it, and one set of mounts has one order.
  const mounts = [root, ...(options.mounts ?? [])].toSorted((a, b) => (a.dest < b.dest ? -1 : 1));
  requireDistinct(mounts.map(({ dest }) => dest));
  const written = mounts.map((mount) => writeMount(mount, inputOf));
  const outputs = written.filter(({ hasOutput }) => hasOutput).map(({ mount }) => mount.dest ?? "");
  const secretenv = (options.secretEnv ?? []).map(({ name, id, optional = false }) => ({
    name,
    ID: id,
    optional,
  }));
  const exec = create(ExecOpSchema, {
    meta: {
      args: [...args],
      env: [...env],
      cwd,
      user,
      hostname,
      extraHosts: extraHosts.map(({ host, ip }) => ({ Host: host, IP: ip })),
      ulimit: limits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
      cgroupParent,
      removeMountStubsRecursive: true,
      validExitCodes: [...validExitCodes],
    },
    mounts: written.map(({ mount }) => ({ ...mount, output: BigInt(outputs.indexOf(mount.dest ?? "")) })),
    network: networks[options.network ?? "sandbox"],
    security: securities[options.security ?? "sandbox"],
    secretenv,
    cdiDevices: (options.devices ?? []).map(({ name, optional = false }) => ({ name, optional })),
  });
  const caps = new Set(["exec.meta.base", ...written.flatMap((each) => each.caps)]);
  if (!env.some((variable) => variable.startsWith("PATH="))) {
    caps.add("exec.meta.setsdefaultpath");
  }
  if (validExitCodes.length > 0) {
    caps.add("exec.validexitcode");
  }
  if (limits.length > 0) {
    caps.add("exec.meta.ulimit");
  }
  if (cgroupParent !== "") {
    caps.add("exec.meta.cgroup.parent");
  }
  if (exec.network !== NetMode.UNSET) {
    caps.add("exec.meta.network");
  }
  if (exec.security !== SecurityMode.SANDBOX) {
    caps.add("exec.meta.security");
  }
  if (secretenv.length > 0) {
    caps.add("exec.secretenv");
  }
  if (exec.cdiDevices.length > 0) {
    caps.add("exec.meta.cdi");
  }
  return { exec, caps: [...caps], outputs };
}

/** The networks of a process, as the worker is told of them. */
export const networks = { sandbox: NetMode.UNSET, host: NetMode.HOST, none: NetMode.NONE } as const;
const securities = { sandbox: SecurityMode.SANDBOX, insecure: SecurityMode.INSECURE } as const;
const sharings = {
  shared: CacheSharingOpt.SHARED,
  private: CacheSharingOpt.PRIVATE,
  locked: CacheSharingOpt.LOCKED,
} as const;

/** The order in which inputs are numbered is that of the mounts. */
/** A mount as the worker is told of it, without the tree that it is of. */
export function mountOf<T>(mount: MountOptions<T>): MountInit {
  return writeMount(mount, () => -1).mount;
}

function writeMount<T>(mount: MountOptions<T>, inputOf: (tree: T) => number): Written {
  const { dest } = mount;
  switch (mount.type) {
    case "bind": {
      const { selector = "", readonly = false, discarded = false } = mount;
      const input = BigInt(inputOf(mount.from));
      const caps = [
        ...(input < 0n ? [] : ["exec.mount.bind"]),
        ...(discarded ? ["exec.mount.bind.readwrite-nooutput"] : []),
        ...selectorCaps(selector),
      ];
      return { mount: { dest, input, selector, readonly }, caps, hasOutput: !readonly && !discarded };
    }
    case "cache": {
      const cacheOpt = { ID: mount.id, sharing: sharings[mount.sharing ?? "shared"] };
      const input = BigInt(mount.from === undefined ? -1 : inputOf(mount.from));
      const { selector = "", readonly = false } = mount;
      return {
        mount: { dest, input, selector, readonly, mountType: MountType.CACHE, cacheOpt },
        caps: ["exec.mount.cache", "exec.mount.cache.sharing", ...selectorCaps(selector)],
        hasOutput: false,
      };
    }
    case "tmpfs": {
      const size = mount.sizeBytes ?? 0;
      return {
        mount: { dest, input: -1n, mountType: MountType.TMPFS, TmpfsOpt: { size: BigInt(size) } },
        caps: ["exec.mount.tmpfs", ...(size > 0 ? ["exec.mount.tmpfs.size"] : [])],
        hasOutput: false,
      };
    }
    case "secret":
    case "ssh": {
      const { id, uid = 0, gid = 0, optional = false } = mount;
      const secret = mount.type === "secret";
      const options = { ID: id, uid, gid, mode: mount.mode ?? (secret ? 0o400 : 0o600), optional };
      return {
        mount: {
          dest,
          input: -1n,
          mountType: secret ? MountType.SECRET : MountType.SSH,
          ...(secret ? { secretOpt: options } : { SSHOpt: options }),
        },
        caps: [`exec.mount.${mount.type}`],
        hasOutput: false,
      };
    }
  }
}

function requireDistinct(destinations: readonly string[]): void {
  const twice = destinations.find((dest, index) => destinations.indexOf(dest) !== index);
  if (twice !== undefined) {
    throw new InvalidArgumentError(
      `Cannot run a process with two mounts at ${JSON.stringify(twice)}: want one`,
    );
  }
}

function selectorCaps(selector: string): readonly string[] {
  return selector === "" ? [] : ["exec.mount.selector"];
}
