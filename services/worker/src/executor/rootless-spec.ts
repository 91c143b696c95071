import { lockedOptions } from "@oci-worker/mounts/locked-options";
import { isBind, type RuntimeSpec, type SpecMount } from "./oci-spec.ts";

/**
 * What is left of `spec` in a user namespace: no cgroup, which is not ours to make; no /sys, which only the owner of the
 * network name space may mount; no devices beyond those that the runtime binds; flags of bind mounts that are locked.
 *
 * @param ipcNamespace path of that of a step which is to have no pid name space of its own; undefined for all others.
 */
export function rootlessSpec(spec: RuntimeSpec, ipcNamespace: string | undefined): RuntimeSpec {
  const { resources: _resources, cgroupsPath: _cgroupsPath, devices: _devices, ...linux } = spec.linux;
  const mounts = spec.mounts.filter(({ destination }) => !isWithin(destination, "/sys"));
  const contained: RuntimeSpec = { ...spec, mounts, linux };
  const limited = ipcNamespace === undefined ? contained : withoutProcessSandbox(contained, ipcNamespace);
  return { ...limited, mounts: limited.mounts.map(withLockedOptions) };
}

/**
 * Where not all of /proc is visible, as in most containers, the kernel does not let anybody mount another one: the step gets
 * the worker's, with its processes.
 */
function withoutProcessSandbox(spec: RuntimeSpec, ipcNamespace: string): RuntimeSpec {
  const { maskedPaths = [], readonlyPaths = [], namespaces, ...linux } = spec.linux;
  const proc: SpecMount = { destination: "/proc", type: "bind", source: "/proc", options: ["rbind"] };
  const outsideProc = (path: string) => !isWithin(path, "/proc");
  return {
    ...spec,
    mounts: [proc, ...spec.mounts.filter(({ destination }) => outsideProc(destination))],
    linux: {
      ...linux,
      namespaces: namespaces
        .filter(({ type }) => type !== "pid")
        .map((each) => (each.type === "ipc" ? { type: "ipc", path: ipcNamespace } : each)),
      // As upstream: what these hide is another user's, and closed to ours.
      maskedPaths: maskedPaths.filter(outsideProc),
      readonlyPaths: readonlyPaths.filter(outsideProc),
    },
  };
}

function withLockedOptions(mount: SpecMount): SpecMount {
  if (!isBind(mount)) {
    return mount;
  }
  const locked = lockedOptions(mount.source).filter((option) => !mount.options.includes(option));
  return locked.length === 0 ? mount : { ...mount, options: [...mount.options, ...locked] };
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}
