import { lstatSync, statfsSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** CGROUP2_SUPER_MAGIC (linux/magic.h). */
const cgroup2Magic = 0x63677270;

/** Whether this host has cgroups of version 2 alone: one tree, and not one for each controller. */
export function hasUnifiedCgroups(): boolean {
  return statfsSync("/sys/fs/cgroup").type === cgroup2Magic;
}

/** Whether `parent` names a slice of systemd's, as runtimes read it: `name.slice:prefix:`. */
export function isSlice(parent: string): boolean {
  return parent.includes(".slice") && parent.endsWith(":");
}

/** Whether systemd runs this host, by which runtimes go as well (sd_booted(3)). */
export function hasSystemd(): boolean {
  return lstatSync("/run/systemd/system", { throwIfNoEntry: false })?.isDirectory() === true;
}

/**
 * Where the cgroup of the container `id` is: beneath the parent, in systemd's form if that is a slice.
 *
 * @throws {InvalidArgumentError} if the parent leads upwards.
 */
export function cgroupsPath(parent: string, id: string): string {
  const parents = parent.split("/").filter(Boolean);
  if (parents.includes("..")) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(parent)} as cgroup parent: want a path without ".."`,
    );
  }
  return isSlice(parent) ? `${parent}${id}` : `/${[...parents, "buildkit", id].join("/")}`;
}
