import { readFileSync } from "node:fs";

/** How /proc/self/uid_map reads in the user namespace that the kernel began with (user_namespaces(7)). */
const initialUidMap = /^\s*0\s+0\s+4294967295\s*$/;

/** Whether this process is in a user namespace beneath the one that the kernel began with. */
export function isInUserNamespace(): boolean {
  return !initialUidMap.test(readFileSync("/proc/self/uid_map", "utf8"));
}
