import { bind, check } from "./libc.ts";

/** Of syslog(2): everything, and it stays. */
const SYSLOG_ACTION_READ_ALL = 3;

/** Kernels keep 128 KiB to 1 MiB of it unless told otherwise. */
const maxBytes = 1024 * 1024;

const libc = { klogctl: bind("int klogctl(int type, void *buffer, int length)") };

/**
 * The newest part of the kernel's log, as text: a line a message, with priority and time before it.
 *
 * @throws {SystemError} EPERM if it is not for us: without CAP_SYSLOG, where `kernel.dmesg_restrict` is set.
 */
export function readKernelLog(): string {
  const buffer = Buffer.allocUnsafe(maxBytes);
  const length = check("syslog", libc.klogctl(SYSLOG_ACTION_READ_ALL, buffer, buffer.length));
  return buffer.toString("utf8", 0, length);
}
