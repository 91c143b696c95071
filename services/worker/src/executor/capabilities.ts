import { readFileSync } from "node:fs";

/**
 * What a sandboxed step may do: the fourteen capabilities of Docker's default set, which BuildKit gives in this order.
 *
 * Never inheritable nor ambient: a program with file capabilities must not gain more than it has (CVE-2022-24769).
 */
export const sandboxCapabilities: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Every capability by its number (linux/capability.h). */
const capabilityNames = `
  CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
  NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
  SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
  MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
`
  .trim()
  .split(/\s+/)
  .map((name) => `CAP_${name}`);

/**
 * The capabilities that this process has and could pass on. More than that nobody can give to a step, and a runtime that
 * is asked to fails.
 *
 * @param status text of /proc/PID/status (proc(5)).
 */
export function ownCapabilities(status = readFileSync("/proc/self/status", "utf8")): string[] {
  const bitsOf = (field: string) =>
    BigInt(`0x${new RegExp(`^${field}:\\s*([0-9a-f]+)$`, "m").exec(status)?.[1] ?? "0"}`);
  const bits = bitsOf("CapPrm") & bitsOf("CapBnd");
  return capabilityNames.filter((_name, number) => (bits >> BigInt(number)) & 1n);
}
