import type { Mount } from "@oci-worker/mounts/mount";
import type { Mountable } from "../backend.ts";
import { overlayMounts } from "../overlayfs/mounts.ts";

/** containerd's mount type for what the helper mount.fuse3 mounts with the program fuse-overlayfs. */
export const fuseOverlayType = "fuse3.fuse-overlayfs";

/**
 * The mounts for a snapshot: those of overlayfs, with a program in its place. It knows the same directories by the same
 * options, and none of the kernel's own such as `index=off`.
 *
 * A view is `ro` besides: without an upper directory the program refuses writes by itself, but only the kernel does so
 * whatever the program makes of a call.
 */
export function fuseOverlayMounts(snapshot: Mountable): Mount[] {
  return overlayMounts(snapshot, snapshot.kind === "view" ? ["ro"] : []).map((mount) =>
    mount.type === "overlay"
      ? { ...mount, type: fuseOverlayType, options: mount.options.map(ofProgram) }
      : mount,
  );
}

/** The program has another name for a map of ids, and colons where the kernel's mounters have commas. */
function ofProgram(option: string): string {
  const [, key, map] = /^([ug]id)map=(.*)$/.exec(option) ?? [];
  return key === undefined || map === undefined ? option : `${key}mapping=${map.replaceAll(",", ":")}`;
}
