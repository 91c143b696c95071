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
