import { statfsSync } from "node:fs";

/** CGROUP2_SUPER_MAGIC (linux/magic.h). */
const cgroup2Magic = 0x63677270;

/** Whether this host has cgroups of version 2 alone: one tree, and not one for each controller. */
export function hasUnifiedCgroups(): boolean {
  return statfsSync("/sys/fs/cgroup").type === cgroup2Magic;
}
