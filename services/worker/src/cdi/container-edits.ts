/**
 * What a device changes of the container that it is given to (CDI specification, "OCI Edits"), checked.
 */
export interface ContainerEdits {
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly deviceNodes: readonly DeviceNode[];
  readonly mounts: readonly EditMount[];
  readonly hooks: readonly EditHook[];
  /** 0 says nothing. */
  readonly additionalGids: readonly number[];
  readonly intelRdt: IntelRdt | undefined;
  /** Edits by name that no runtime of ours makes. A step that would need one is refused. */
  readonly unsupported: readonly string[];
}

/** A node of a device. What is undefined is that of the host's node. */
export interface DeviceNode {
  /** Absolute, in the container. */
  readonly path: string;
  /** Absolute, on the host; undefined if it is {@link path} there, too. */
  readonly hostPath: string | undefined;
  readonly type: NodeType | undefined;
  readonly major: number | undefined;
  readonly minor: number | undefined;
  /** Permission bits. */
  readonly fileMode: number | undefined;
  /** What the device cgroup is to allow, of the letters r, w and m; empty for nothing. */
  readonly permissions: string;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** Of mknod(1): block, character, character without a buffer, fifo. */
export const nodeTypes = ["b", "c", "u", "p"] as const;
export type NodeType = (typeof nodeTypes)[number];

export interface EditMount {
  readonly hostPath: string;
  readonly containerPath: string;
  /** Empty if it does not say: bind mounts need none. */
  readonly type: string;
  readonly options: readonly string[];
}

/** The points in the life of a container at which the runtime runs hooks (OCI runtime-spec, config.md, "POSIX-platform Hooks"). */
export const hookNames = [
  "prestart",
  "createRuntime",
  "createContainer",
  "startContainer",
  "poststart",
  "poststop",
] as const;
export type HookName = (typeof hookNames)[number];

export interface EditHook {
  readonly hookName: HookName;
  /** Absolute. */
  readonly path: string;
  /** As of execve(2), the program's name among them. */
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** In seconds; undefined for none. */
  readonly timeout: number | undefined;
}

/** linux.intelRdt of the OCI runtime spec. */
export interface IntelRdt {
  readonly closID?: string;
  readonly l3CacheSchema?: string;
  readonly memBwSchema?: string;
}

export const noEdits: ContainerEdits = {
  env: [],
  deviceNodes: [],
  mounts: [],
  hooks: [],
  additionalGids: [],
  intelRdt: undefined,
  unsupported: [],
};

/** All of `edits`, in their order. */
export function joinEdits(edits: readonly ContainerEdits[]): ContainerEdits {
  return {
    env: edits.flatMap(({ env }) => env),
    deviceNodes: edits.flatMap(({ deviceNodes }) => deviceNodes),
    mounts: edits.flatMap(({ mounts }) => mounts),
    hooks: edits.flatMap(({ hooks }) => hooks),
    additionalGids: edits.flatMap(({ additionalGids }) => additionalGids),
    intelRdt: edits.findLast(({ intelRdt }) => intelRdt !== undefined)?.intelRdt,
    unsupported: edits.flatMap(({ unsupported }) => unsupported),
  };
}

export function isEmpty({ intelRdt, ...lists }: ContainerEdits): boolean {
  return intelRdt === undefined && Object.values(lists).every((list) => list.length === 0);
}
