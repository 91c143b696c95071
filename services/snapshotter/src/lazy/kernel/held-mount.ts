import { randomUUID } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { closeDevice, hasEnded, mountDevice, openDevice } from "@oci-worker/fuse/device";
import { type Holder, startHolder, stopHolder, takeFromHolder } from "@oci-worker/fuse/holder";
import { MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from "@oci-worker/libc/mount";
import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { raiseReadAhead } from "@oci-worker/mounts/read-ahead";
import { codeOf } from "./error-code.ts";
import { type HeldKind, type HeldRecord, readRecord, writeRecord } from "./held-record.ts";

/** A FUSE mount that outlives the process which serves it. */
export interface HeldMount {
  readonly target: string;
  readonly kind: HeldKind;
  /** Of its device: whoever serves it reads requests there. */
  readonly fd: number;
  /** It was there already: what an earlier process has not answered waits for an answer. */
  readonly isAdopted: boolean;
  readonly holder: Holder;
  readonly recordPath: string;
}

/** What one request may ask for; measured, more ahead gains nothing. */
export const readAheadKiB = 1024;

/** Where in a directory of lazy layers the records of its mounts are. */
function recordsIn(directory: string): string {
  return `${directory}/held`;
}

/**
 * Takes over the mounts that earlier processes have made for the lazy layers in `directory`. Those of which nobody can
 * answer requests any more are taken out of sight.
 */
export async function adoptHeldMounts(directory: string): Promise<HeldMount[]> {
  const records = recordsIn(directory);
  await mkdir(records, { recursive: true, mode: 0o700 });
  const adopted: HeldMount[] = [];
  for (const name of await readdir(records)) {
    const recordPath = `${records}/${name}`;
    const record = await readRecord(recordPath);
    const mount = record && (await adopt(recordPath, record));
    if (mount !== undefined) {
      adopted.push(mount);
      continue;
    }
    if (record !== undefined) {
      stopHolder(record.holder);
      await detachOurs(record.target, directory);
    }
    await rm(recordPath, { force: true });
  }
  return adopted;
}

async function adopt(
  recordPath: string,
  { target, kind, holder, device }: HeldRecord,
): Promise<HeldMount | undefined> {
  const mounted = mountedAt(await readMountInfo(), target);
  const isThere = device !== undefined && mounted?.type === "fuse" && mounted.device === device;
  const fd = isThere ? takeFromHolder(holder) : undefined;
  if (fd === undefined || !hasEnded(fd)) {
    return fd === undefined ? undefined : { target, kind, fd, isAdopted: true, holder, recordPath };
  }
  closeDevice(fd);
  return undefined;
}

/**
 * Mounts a FUSE device at `target`, which is made if it is not there, for the lazy layers in `directory`.
 *
 * @throws {FailedPreconditionError} if the kernel lets us not.
 */
export async function makeHeldMount(directory: string, target: string, kind: HeldKind): Promise<HeldMount> {
  await mkdir(target, { recursive: true });
  const recordPath = `${recordsIn(directory)}/${randomUUID()}`;
  await using undo = new AsyncDisposableStack();
  const fd = openDevice();
  undo.defer(() => closeDevice(fd));
  // Written before there is anything to find again, and completed when there is.
  undo.defer(() => rm(recordPath, { force: true }));
  const holder = await startHolder(fd, async (started) =>
    writeRecord(recordPath, { target, kind, holder: started }),
  );
  undo.defer(() => stopHolder(holder));
  mountDevice(fd, target, { name: directory, isImage: kind === "trees" });
  undo.defer(() => detachOurs(target, directory));
  const device = mountedAt(await readMountInfo(), target)?.device;
  if (device === undefined) {
    throw new Error(`Cannot find mount ${target} that has just been made`);
  }
  // A help to speed that a user namespace does not allow.
  await raiseReadAhead(device, readAheadKiB).catch(() => undefined);
  writeRecord(recordPath, { target, kind, holder, device });
  undo.move();
  return { target, kind, fd, isAdopted: false, holder, recordPath };
}

/** Lets go of a mount that is no longer there. */
export async function forgetHeldMount({ fd, holder, recordPath }: HeldMount): Promise<void> {
  closeDevice(fd);
  stopHolder(holder);
  await rm(recordPath, { force: true });
}

/** Takes a mount that nobody serves out of sight and lets go of it. */
export async function dropHeldMount(directory: string, mount: HeldMount): Promise<void> {
  await detachOurs(mount.target, directory);
  await forgetHeldMount(mount);
}

/** Takes what we have mounted on `target` out of sight, also if nobody answers for it, or others still use it. */
async function detachOurs(target: string, directory: string): Promise<void> {
  const mounted = mountedAt(await readMountInfo(), target);
  if (mounted?.type !== "fuse" || mounted.source !== directory) {
    return;
  }
  try {
    umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH);
  } catch (error) {
    if (codeOf(error) !== "EINVAL") {
      throw error;
    }
  }
}
