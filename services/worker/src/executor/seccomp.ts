import { readFileSync } from "node:fs";
import { allowedSyscalls } from "./seccomp-syscalls.ts";

/** linux.seccomp of the OCI runtime spec (config-linux.md, "Seccomp"), what we use of it. */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly op: string;
}

const allow = "SCMP_ACT_ALLOW";
const refuse = "SCMP_ACT_ERRNO";

// errno.h
const EPERM = 1;
const ENOSYS = 38;

/** Address family of virtual machine sockets (linux/socket.h): they reach past every network namespace. */
const AF_VSOCK = 40;

/** personality(2) may be asked for Linux, 32 bit Linux and both with short inode numbers, and may be read. */
const personalities = [0, 0x0008, 0x20000, 0x20008, 0xffffffff];

/** Every CLONE_NEW* flag but CLONE_NEWTIME: clone(2) may not make name spaces. */
const cloneNamespaces = 0x7e020000;

/** What libseccomp calls the architectures that a kernel of each machine type runs, and their own system calls. */
const machines: Readonly<Record<string, { readonly architectures: string[]; readonly own: string[][] }>> = {
  x64: {
    architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    own: [["arch_prctl"], ["modify_ldt"]],
  },
  arm64: {
    architectures: ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    own: [
      ["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"],
    ],
  },
  riscv64: { architectures: ["SCMP_ARCH_RISCV64"], own: [["riscv_flush_icache"]] },
};

/**
 * Docker's default profile, evaluated for a step with `capabilities` on a kernel of at least 4.8: the rules that
 * BuildKit hands to runc, in its order.
 *
 * @param machine as in `process.arch`.
 * @param status text of /proc/PID/status, which says whether the kernel filters at all (proc(5), Seccomp).
 * @returns undefined for a kernel that does not, and for a machine whose architectures we cannot name; the step then runs
 *   unfiltered, as upstream's.
 */
export function defaultSeccompProfile(
  capabilities: readonly string[],
  machine: string,
  status = readFileSync("/proc/self/status", "utf8"),
): SeccompProfile | undefined {
  const known = machines[machine];
  if (known === undefined || !/^Seccomp:/m.test(status)) {
    return undefined;
  }
  const rules: SeccompRule[] = [
    { names: allowedSyscalls, action: allow },
    { names: ["process_vm_readv", "process_vm_writev", "ptrace"], action: allow },
    { names: ["socket"], action: allow, args: [{ index: 0, value: AF_VSOCK, op: "SCMP_CMP_NE" }] },
    ...personalities.map((value) => ({
      names: ["personality"],
      action: allow,
      args: [{ index: 0, value, op: "SCMP_CMP_EQ" }],
    })),
    ...known.own.map((names) => ({ names, action: allow })),
    {
      names: ["clone"],
      action: allow,
      args: [{ index: 0, value: cloneNamespaces, op: "SCMP_CMP_MASKED_EQ" }],
    },
    // Its flags lie in memory that a filter cannot read; told that it does not exist, C libraries fall back to clone.
    { names: ["clone3"], action: refuse, errnoRet: ENOSYS },
  ];
  if (capabilities.includes("CAP_SYS_CHROOT")) {
    rules.push({ names: ["chroot"], action: allow });
  }
  return {
    defaultAction: refuse,
    defaultErrnoRet: EPERM,
    architectures: known.architectures,
    syscalls: rules,
  };
}
