import { lstatSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { lookUp } from "./lookup.ts";

/** Where every step has the kernel's own file systems, and the devices that the runtime makes. */
const kernelPlaces = ["proc", "sys", "dev"];

/**
 * Refuses an image with a link in the place of a directory of the kernel's: runc 1.1 makes `/dev/stdin` and others by the
 * name, before it is inside, and so wherever on the host the link leads.
 *
 * @throws {InvalidArgumentError}
 */
export function refuseLinkedKernelPlaces(rootfs: string): void {
  for (const name of kernelPlaces) {
    if (lstatSync(join(rootfs, name), { throwIfNoEntry: false })?.isSymbolicLink() === true) {
      throw new InvalidArgumentError(
        `Cannot run a step in this image: /${name} is a symbolic link in it, want a directory`,
      );
    }
  }
}

/**
 * Refuses a mount over /proc or in it: a runtime that reads there of the container what the container has put there can
 * be led anywhere (CVE-2019-16884, CVE-2023-25809). Links of the image do not help: what counts is where it leads.
 *
 * @throws {InvalidArgumentError}
 */
export function refuseMountInProc(rootfs: string, destination: string): void {
  const [first] = lookUp(rootfs, destination).components;
  if (first === "proc") {
    throw new InvalidArgumentError(
      `Cannot mount at ${destination}: it is in /proc, which belongs to the kernel`,
    );
  }
}

/**
 * Refuses a working directory in /proc: `/proc/self/fd/N` is wherever the runtime has a directory open on the host
 * (CVE-2024-21626).
 *
 * @throws {InvalidArgumentError} in upstream's words for a working directory that cannot be.
 */
export function refuseWorkingDirectoryInProc(rootfs: string, cwd: string): void {
  const [first, ...rest] = lookUp(rootfs, cwd).components;
  if (first === "proc" && rest.length > 0) {
    throw new InvalidArgumentError(
      `working dir ${cwd} points to invalid target: it is in /proc, which belongs to the kernel`,
    );
  }
}
