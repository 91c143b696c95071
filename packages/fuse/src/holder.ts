import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fstatSync, readFileSync, statSync } from "node:fs";
import { pidfdGetfd, pidfdOpen } from "@oci-worker/libc/descriptor";

/**
 * A process that does nothing but hold a FUSE device open, so that the file system outlives the one that serves it:
 * requests wait until another process takes the device and serves on.
 */
export interface Holder {
  readonly pid: number;
  /** When it was started, the boot and clock ticks since then: process ids are used again (proc(5), starttime). */
  readonly startTime: string;
}

/** Another one each time that the machine starts (random(4)). */
const bootIDPath = "/proc/sys/kernel/random/boot_id";

/** The descriptor of the device in the holder. */
const heldFd = 3;

/** Nobody waits for its end: this many seconds are 68 years, which every `sleep` takes. */
const forever = "2147483647";

/** Ends at once if whoever has started it ends before it says that it will find it again. */
const program = `read -r _ && exec sleep ${forever}`;

/**
 * Starts a holder of the device `fd`, in a session of its own: what ends this process and its group does not end it. A service
 * manager may still do so; systemd wants KillMode=process for that.
 *
 * @param remember writes down the holder; it ends by itself if that fails, or this process ends before.
 * @throws if there are no programs `sh` and `sleep`.
 */
export async function startHolder(
  fd: number,
  remember: (holder: Holder) => Promise<void> = async () => undefined,
): Promise<Holder> {
  const process = spawn("sh", ["-c", program], { detached: true, stdio: ["pipe", "ignore", "ignore", fd] });
  await once(process, "spawn");
  process.unref();
  const { pid, stdin } = process;
  const startTime = pid === undefined ? undefined : startTimeOf(pid);
  if (pid === undefined || startTime === undefined || stdin === null) {
    throw new Error("Cannot hold FUSE device: the process that should hold it has ended at once");
  }
  // It may have been ended from outside; whoever takes the device from it will see.
  stdin.on("error", () => undefined);
  try {
    await remember({ pid, startTime });
    stdin.end("\n");
  } catch (error) {
    stdin.end();
    throw error;
  }
  return { pid, startTime };
}

/**
 * Takes the device from a holder that an earlier process has started. The holder keeps its own descriptor.
 *
 * @returns a descriptor of the caller's own, or undefined if the holder is gone, and the file system with it.
 */
export function takeFromHolder({ pid, startTime }: Holder): number | undefined {
  let pidfd: number;
  try {
    pidfd = pidfdOpen(pid);
  } catch {
    return undefined;
  }
  try {
    // The descriptor means one process, whatever becomes of its number; so look at the number after opening it.
    if (startTimeOf(pid) !== startTime) {
      return undefined;
    }
    return deviceOf(pidfdGetfd(pidfd, heldFd));
  } catch {
    return undefined;
  } finally {
    closeSync(pidfd);
  }
}

/** Ends a holder. If nobody else has the device, its file system ends as well. */
export function stopHolder({ pid, startTime }: Holder): void {
  if (startTimeOf(pid) === startTime) {
    process.kill(pid, "SIGKILL");
  }
}

/** `fd`, if it is a FUSE device. */
function deviceOf(fd: number): number | undefined {
  if (fstatSync(fd).rdev === statSync("/dev/fuse").rdev) {
    return fd;
  }
  closeSync(fd);
  return undefined;
}

function startTimeOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses, which may have spaces in it.
    const [state, ...rest] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? undefined : `${readFileSync(bootIDPath, "latin1").trim()} ${rest[18]}`;
  } catch {
    return undefined;
  }
}
