import { statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { lockableOptions } from "@oci-worker/mounts/locked-options";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { requireIDs } from "../remap/step-ids.ts";
import type { UserRemap } from "../remap/user-remap.ts";
import type { SpecDevice } from "./devices.ts";
import { type IDMapping, isBind, type RuntimeSpec, type SpecMount } from "./oci-spec.ts";

/**
 * `spec` for a step whose users are others on the host: in the user namespace of the worker's steps. Who it runs as must have
 * an id in there; devices are those that the host has, which the runtime binds; bind mounts keep the flags that are
 * locked in there.
 *
 * @param sysPath where /sys of the host can be bound from; undefined if the step's network is its own, and so is /sys.
 * @throws {InvalidArgumentError} if its user or one of its groups has no id.
 */
export function remappedSpec(
  spec: RuntimeSpec,
  remap: Pick<UserRemap, "hostOwner" | "namespacePath" | "uids" | "gids">,
  sysPath: string | undefined,
): RuntimeSpec {
  requireIDs(remap, spec.process.user);
  const { devices = [], ...linux } = spec.linux;
  const there = devices.filter(isOnHost);
  const mounts = spec.mounts.map((mount) => (mount.type === "sysfs" ? sysMount(mount, sysPath) : mount));
  return {
    ...spec,
    mounts: mounts.map(withLockableOptions),
    linux: {
      ...linux,
      namespaces: [...linux.namespaces, { type: "user", path: remap.namespacePath }],
      uidMappings: mappings(remap.uids),
      gidMappings: mappings(remap.gids),
      ...(there.length > 0 && { devices: there }),
    },
  };
}

/**
 * Shows /sys of the host in `bundle`, until `undo` takes it away: only who owns a network name space may mount the /sys that goes
 * with it, and a bind of it must not leave out what is mounted beneath, unless nothing is.
 */
export async function showSys(bundle: string, undo: AsyncDisposableStack): Promise<string> {
  const path = join(bundle, "sys");
  await mkdir(path);
  await mountAll([{ type: "bind", source: "/sys", options: ["bind"] }], path);
  undo.defer(() => unmount(path));
  return path;
}

function sysMount(mount: SpecMount, source: string | undefined): SpecMount {
  return source === undefined
    ? mount
    : { ...mount, type: "bind", source, options: ["rbind", ...mount.options] };
}

function withLockableOptions(mount: SpecMount): SpecMount {
  if (!isBind(mount)) {
    return mount;
  }
  const locked = lockableOptions(mount.source).filter((option) => !mount.options.includes(option));
  return locked.length === 0 ? mount : { ...mount, options: [...mount.options, ...locked] };
}

/** A node that is only made, as outside of user namespaces, may lead nowhere. */
function isOnHost({ path }: SpecDevice): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats?.isCharacterDevice() === true || stats?.isBlockDevice() === true || stats?.isFIFO() === true;
}

function mappings(map: UserRemap["uids"]): IDMapping[] {
  return map.map(({ inside, outside, size }) => ({ containerID: inside, hostID: outside, size }));
}
