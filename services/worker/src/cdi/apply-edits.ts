import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { SpecDevice } from "../executor/devices.ts";
import type { RuntimeSpec, SpecHook, SpecHooks, SpecMount } from "../executor/oci-spec.ts";
import type { DeviceRule } from "../executor/privileges.ts";
import type { ContainerEdits, DeviceNode, EditHook, EditMount } from "./container-edits.ts";
import { findNode, requireHostDevice } from "./device-node.ts";

/**
 * `spec` with the edits of devices made in it.
 *
 * @param bindsNodes for a container in a user namespace, where no node can be made: the host's are mounted instead.
 * @throws {FailedPreconditionError} if the host lacks a device, or the runtime could not make an edit.
 */
export function applyEdits(spec: RuntimeSpec, edits: ContainerEdits, bindsNodes: boolean): RuntimeSpec {
  const [unsupported] = edits.unsupported;
  if (unsupported !== undefined) {
    throw new FailedPreconditionError(
      `Cannot give a step a CDI device: its specification asks for ${unsupported}, which this worker cannot do`,
    );
  }
  const edited = {
    ...spec,
    process: withProcessEdits(spec.process, edits),
    ...(edits.hooks.length > 0 && { hooks: withHooks(spec.hooks, edits.hooks) }),
    linux: { ...spec.linux, ...(edits.intelRdt && { intelRdt: edits.intelRdt }) },
  };
  const mounts = [...(bindsNodes ? edits.deviceNodes.map(nodeMount) : []), ...edits.mounts.map(editMount)];
  return withMounts(edits.deviceNodes.reduce(bindsNodes ? withRule : withNode, edited), mounts);
}

/** Where in a container `edits` put something, for which the runtime makes what is missing. */
export function editedPaths({ deviceNodes, mounts }: ContainerEdits): string[] {
  return [...deviceNodes.map(({ path }) => path), ...mounts.map(({ containerPath }) => containerPath)];
}

function withProcessEdits(
  process: RuntimeSpec["process"],
  { additionalGids, env }: ContainerEdits,
): RuntimeSpec["process"] {
  const gids = new Set([...process.user.additionalGids, ...additionalGids.filter((gid) => gid !== 0)]);
  return {
    ...process,
    env: env.reduce(withVariable, process.env),
    user: { ...process.user, additionalGids: [...gids] },
  };
}

/** In the place of one of that name. */
function withVariable(env: readonly string[], variable: string): readonly string[] {
  const start = variable.slice(0, variable.indexOf("=") + 1);
  const index = env.findIndex((each) => each.startsWith(start));
  return index < 0 ? [...env, variable] : env.with(index, variable);
}

function withNode(spec: RuntimeSpec, node: DeviceNode): RuntimeSpec {
  const { path } = node;
  const { type, major, minor, fileMode } = findNode(node);
  const { user } = spec.process;
  // Who is not root would not get at a device of root's.
  const uid = node.uid ?? (user.uid > 0 ? user.uid : undefined);
  const gid = node.gid ?? (user.gid > 0 ? user.gid : undefined);
  const device: SpecDevice = {
    path,
    type,
    major,
    minor,
    ...(fileMode !== undefined && { fileMode }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
  };
  const { devices = [], ...linux } = withRule(spec, node).linux;
  return {
    ...spec,
    linux: { ...linux, devices: [...devices.filter((other) => other.path !== path), device] },
  };
}

/** Lets the cgroup use the device. */
function withRule(spec: RuntimeSpec, node: DeviceNode): RuntimeSpec {
  const { permissions } = node;
  const { type, major, minor } = findNode(node);
  const { resources } = spec.linux;
  if (resources === undefined || type === "p" || permissions === "") {
    return spec;
  }
  const devices = [...resources.devices, allowed(type, major, minor, permissions)];
  return { ...spec, linux: { ...spec.linux, resources: { ...resources, devices } } };
}

function allowed(type: "b" | "c" | "u", major: number, minor: number, access: string): DeviceRule {
  return { allow: true, type: type === "b" ? "b" : "c", major, minor, access };
}

function nodeMount({ path, hostPath = path, permissions }: DeviceNode): SpecMount {
  requireHostDevice(hostPath);
  const isReadonly = permissions !== "" && !permissions.includes("w");
  const options = ["bind", "nosuid", "noexec", ...(isReadonly ? ["ro"] : [])];
  return { destination: path, type: "bind", source: hostPath, options };
}

function editMount({ containerPath, hostPath, options, type }: EditMount): SpecMount {
  const isBind = options.includes("bind") || options.includes("rbind");
  return { destination: containerPath, type: type || (isBind ? "bind" : "none"), source: hostPath, options };
}

/** In place of those at the same point, and before what is mounted beneath. */
function withMounts(spec: RuntimeSpec, mounts: readonly SpecMount[]): RuntimeSpec {
  if (mounts.length === 0) {
    return spec;
  }
  const added = new Map(mounts.map((mount) => [mount.destination, mount]));
  const all = [...spec.mounts.filter(({ destination }) => !added.has(destination)), ...added.values()];
  return { ...spec, mounts: all.toSorted((left, right) => depth(left) - depth(right)) };
}

function depth({ destination }: SpecMount): number {
  return destination.split("/").filter(Boolean).length;
}

function withHooks(hooks: SpecHooks | undefined, edits: readonly EditHook[]): SpecHooks {
  const all: { -readonly [K in keyof SpecHooks]: SpecHooks[K] } = { ...hooks };
  for (const { hookName, path, args, env, timeout } of edits) {
    const hook: SpecHook = {
      path,
      ...(args.length > 0 && { args }),
      ...(env.length > 0 && { env }),
      ...(timeout !== undefined && { timeout }),
    };
    all[hookName] = [...(all[hookName] ?? []), hook];
  }
  return all;
}
