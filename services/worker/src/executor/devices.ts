import { closeSync, openSync } from "node:fs";
import { getFreeLoop } from "@oci-worker/libc/loop";

/** linux.devices of the OCI runtime spec (config-linux.md, "Devices"). */
export interface SpecDevice {
  readonly path: string;
  /** As of mknod(1). */
  readonly type: "b" | "c" | "u" | "p";
  readonly major: number;
  readonly minor: number;
  /** Permission bits; the runtime's default if absent. */
  readonly fileMode?: number;
  /** Root's if absent. */
  readonly uid?: number;
  readonly gid?: number;
}

// Numbers of linux/Documentation/admin-guide/devices.txt.
const insecureCharacterDevices: readonly SpecDevice[] = [
  { path: "/dev/kmsg", type: "c", major: 1, minor: 11 },
  { path: "/dev/cuse", type: "c", major: 10, minor: 203 },
  { path: "/dev/fuse", type: "c", major: 10, minor: 229 },
  { path: "/dev/kvm", type: "c", major: 10, minor: 232 },
  { path: "/dev/net/tun", type: "c", major: 10, minor: 200 },
  { path: "/dev/loop-control", type: "c", major: 10, minor: 237 },
];
const loopMajor = 7;

/** A step that mounts images finds so many loop devices that nobody uses yet. Upstream's number. */
const spareLoops = 8;

/**
 * The devices of a step with `security.insecure`: those that building images of machines takes.
 *
 * @param firstFreeLoop number of the first loop device that is not in use.
 */
export function insecureDevices(firstFreeLoop = freeLoop()): SpecDevice[] {
  const loops = Array.from({ length: firstFreeLoop + spareLoops }, (_, minor): SpecDevice => {
    return { path: `/dev/loop${minor}`, type: "b", major: loopMajor, minor };
  });
  return [...insecureCharacterDevices, ...loops];
}

/** 0 where there are none to be had: the nodes then lead nowhere, as they do outside. */
function freeLoop(): number {
  let control: number;
  try {
    control = openSync("/dev/loop-control", "r+");
  } catch {
    return 0;
  }
  try {
    return getFreeLoop(control);
  } finally {
    closeSync(control);
  }
}
