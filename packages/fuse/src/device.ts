import { closeSync, constants, openSync } from "node:fs";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { isInError, writeFrom } from "@oci-worker/libc/descriptor";
import { MS_NODEV, MS_NOSUID, MS_RDONLY, mount } from "@oci-worker/libc/mount";
import { outHeaderBytes } from "./protocol.ts";

export interface FuseMountOptions {
  /** Shown as the source in the list of mounts. */
  readonly name: string;
  /** Whether set-user-ID programs and devices on it work, as in a layer of an image. */
  readonly isImage: boolean;
}

/** A negative reply of this kind is a notification; its unique number is 0 (linux/fuse.h, FUSE_NOTIFY_RESEND). */
const notifyResend = 7;

/** Opens the FUSE device. Whoever holds the descriptor can answer for the file system that is mounted with it. */
export function openDevice(): number {
  return openSync("/dev/fuse", constants.O_RDWR);
}

/**
 * Mounts the FUSE device `fd`, read-only and open to all users; the kernel checks the permissions of files.
 *
 * The first request is answered by whoever serves the device then; the mount itself waits for nobody.
 *
 * @throws {FailedPreconditionError} with what the kernel said.
 */
export function mountDevice(fd: number, target: string, { name, isImage }: FuseMountOptions): void {
  const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions`;
  const flags = MS_RDONLY | (isImage ? 0n : MS_NOSUID | MS_NODEV);
  try {
    mount(name, target, "fuse", flags, data);
  } catch (cause) {
    throw new FailedPreconditionError(`Cannot mount FUSE on ${target}: ${String(cause)}`, { cause });
  }
}

/** Whether the file system of the device `fd` has ended: unmounted everywhere, or aborted. Nobody can answer for it then. */
export function hasEnded(fd: number): boolean {
  return isInError(fd);
}

/**
 * Has the kernel repeat the requests that were taken from the device and never answered: a server does so that follows one
 * that was killed. Linux 6.9; before that, nothing happens and those requests wait for ever.
 *
 * @returns whether the kernel did.
 */
export function resendUnanswered(fd: number): boolean {
  const notification = Buffer.alloc(outHeaderBytes);
  notification.writeUInt32LE(outHeaderBytes, 0);
  notification.writeInt32LE(notifyResend, 4);
  return writeFrom(fd, notification, outHeaderBytes) === outHeaderBytes;
}

/** A buffer for {@link answerRead}: the content belongs behind its first 16 bytes. */
export function readReply(maxBytes: number): Buffer {
  return Buffer.allocUnsafe(outHeaderBytes + maxBytes);
}

/** Where in a {@link readReply} the content begins. */
export const readReplyHeaderBytes = outHeaderBytes;

/**
 * Answers a read that `FileSystem.read` has put off, from any thread.
 *
 * @param result how many bytes of content there are in `reply`, or a negated errno.
 */
export function answerRead(fd: number, unique: bigint, reply: Buffer, result: number): void {
  const length = outHeaderBytes + Math.max(0, result);
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(Math.min(0, result), 4);
  reply.writeBigUInt64LE(unique, 8);
  // Nobody waits for it any more if that fails.
  writeFrom(fd, reply, length);
}

/** Gives the device back. The mount ends with the last descriptor. */
export function closeDevice(fd: number): void {
  closeSync(fd);
}
