import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { asFileOwner } from "@oci-worker/libc/file-owner";
import {
  MNT_DETACH,
  MS_BIND,
  MS_REC,
  MS_REMOUNT,
  mount as mountSyscall,
  UMOUNT_NOFOLLOW,
  umount2,
} from "@oci-worker/libc/mount";
import { lockedOptions } from "./locked-options.ts";
import { attachMapped, mappedDirectories } from "./mapped.ts";
import { helperCommand, mountByHelper } from "./mount-by-helper.ts";
import { mountByParameters } from "./mount-by-parameters.ts";
import { type ParsedOptions, parseOptions } from "./options.ts";
import type { OwnerMap } from "./owner-map.ts";
import { openUserNamespace } from "./user-namespace.ts";

/**
 * What mount(2) would be told: containerd's Mount. A type such as `fuse3.fuse-overlayfs` names a program that serves the
 * file system, and is mounted by a helper of mount(8).
 */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** A directory on which mounts are shown until it is disposed of. */
export interface MountedDirectory extends AsyncDisposable {
  readonly path: string;
}

/** The data argument of mount(2) is copied as one page, its NUL included (man 2 mount). */
const maxDataBytes = 4095;

/** Flags that a bind mount takes over from its source unless it is remounted with them (mount(2), MS_REMOUNT). */
const appliedByRemount = ~(MS_BIND | MS_REC);

/** A mount that somebody still uses is tried again this often; a build step's last process may be just ending. */
const busyRetries = 50;
const busyPauseMs = 20;

/**
 * Mounts `mounts` in order at `target`, or shows nothing at all.
 *
 * @param owners whose ids all files are shown with; absent: as the mounts themselves say.
 * @throws {FailedPreconditionError} naming the mount and what the kernel or the helper said; what was mounted until
 *   then is undone.
 */
export async function mountAll(mounts: readonly Mount[], target: string, owners?: OwnerMap): Promise<void> {
  await using undo = new AsyncDisposableStack();
  for (const mount of mounts) {
    await mountOne(mount, target, owners);
    undo.defer(() => unmount(target));
  }
  undo.move();
}

/**
 * Mounts `mounts` one over the other at a fresh directory beneath `parent`.
 *
 * ```ts
 * await using directory = await mountTemporarily(await snapshotter.prepare(key, parent, labels), scratch);
 * await applyLayer(directory.path, layer);
 * ```
 *
 * Disposing unmounts and then removes the directory, which is never emptied by force: whatever a mount that would
 * not go away shows is not ours to delete.
 *
 * @param owners as in {@link mountAll}.
 */
export async function mountTemporarily(
  mounts: readonly Mount[],
  parent: string,
  owners?: OwnerMap,
): Promise<MountedDirectory> {
  await using undo = new AsyncDisposableStack();
  const path = await mkdtemp(join(parent, "mount-"));
  undo.defer(() => rmdir(path));
  await mountAll(mounts, path, owners);
  undo.defer(() => unmount(path));
  const owned = undo.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/**
 * Unmounts everything that is mounted on `target`, whatever lies beneath it included.
 *
 * One that stays busy is detached: out of sight at once, gone when its last user is.
 */
export async function unmount(target: string): Promise<void> {
  for (let retries = 0; ; ) {
    try {
      umount2(target, UMOUNT_NOFOLLOW);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "EINVAL" || code === "ENOENT") {
        return;
      }
      if (code !== "EBUSY") {
        throw error;
      }
      if (retries === busyRetries) {
        umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH);
        return;
      }
      retries += 1;
      await delay(busyPauseMs);
    }
  }
}

async function mountOne(mount: Mount, at: string, owners: OwnerMap | undefined): Promise<void> {
  const options = parseOptions(mount.options);
  const helper = helperCommand(owners === undefined ? mount : withServedOwners(mount, owners), at);
  try {
    if (owners !== undefined && options.idMap !== undefined) {
      throw new Error("its options map ids already");
    }
    if (helper !== undefined) {
      await mountByHelper(helper);
    } else if (owners !== undefined) {
      mountOwned(mount, at, options, owners);
    } else if (options.idMap === undefined) {
      mountAsItIs(mount, at, options);
    } else {
      using userNamespace = await openUserNamespace(options.idMap);
      mountMapped(mount, at, options, userNamespace.fd);
    }
    remountBind(at, options.flags);
    if (options.propagation !== 0n) {
      mountSyscall("", at, "", options.propagation, "");
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot mount ${mount.type} ${mount.source} at ${at}: ${why}`, {
      cause,
    });
  }
}

function mountAsItIs(mount: Mount, at: string, options: ParsedOptions): void {
  const { flags, data } = options;
  // In one text an overlay says which commas are part of a path; nothing else does.
  const isAmbiguous = mount.type !== "overlay" && data.some((option) => option.includes(","));
  if (isAmbiguous || Buffer.byteLength(data.join(",")) > maxDataBytes) {
    mountByParameters(mount, at, options);
  } else {
    mountSyscall(mount.source, at, mount.type, flags, data.join(","));
  }
}

/**
 * Of a bind mount all is shown with other ids. Of an overlay only what is in its lower directories: the upper one is
 * written to by those who see the mount, with the ids that they have.
 */
function mountMapped(mount: Mount, at: string, options: ParsedOptions, userNamespace: number): void {
  if (isBind(options)) {
    attachMapped(mount.source, at, userNamespace, (options.flags & MS_REC) !== 0n);
  } else if (mount.type === "overlay") {
    using mapped = mappedDirectories(options.data, at, userNamespace, false);
    mountAsItIs(mount, at, { ...options, data: mapped.data });
  } else {
    throw new Error("uidmap and gidmap are for bind mounts and overlays");
  }
}

/**
 * All of it is shown with other ids. An overlay cannot be as a whole, but all that it is made of can; what it makes itself on
 * the way, such as the marks of what was removed, it makes as who mounts it, and that must be somebody who has an id there.
 */
function mountOwned(
  mount: Mount,
  at: string,
  options: ParsedOptions,
  { root, userNamespace }: OwnerMap,
): void {
  if (isBind(options)) {
    attachMapped(mount.source, at, userNamespace, (options.flags & MS_REC) !== 0n);
  } else if (mount.type === "overlay") {
    using mapped = mappedDirectories(options.data, at, userNamespace, true);
    asFileOwner(root.uid, root.gid, () => mountAsItIs(mount, at, { ...options, data: mapped.data }));
  } else {
    mountAsItIs(mount, at, options);
    try {
      attachMapped(at, at, userNamespace, false);
    } catch (error) {
      umount2(at, UMOUNT_NOFOLLOW);
      throw error;
    }
  }
}

/** No mount that a program serves is mapped by the kernel; fuse-overlayfs does it itself, if it is told. */
function withServedOwners(mount: Mount, { uids, gids }: OwnerMap): Mount {
  const ranges = (map: string) => map.replaceAll(",", ":");
  return {
    ...mount,
    options: [...mount.options, `uidmapping=${ranges(uids)}`, `gidmapping=${ranges(gids)}`],
  };
}

function isBind({ flags }: ParsedOptions): boolean {
  return (flags & (MS_BIND | MS_REMOUNT)) === MS_BIND;
}

/** A bind mount has the flags of its source; only a remount gives it others (mount(2)), and must not lift locked ones. */
function remountBind(at: string, flags: bigint): void {
  const wanted = flags & appliedByRemount;
  if ((flags & MS_BIND) !== 0n && wanted !== 0n && (flags & MS_REMOUNT) === 0n) {
    const kept = parseOptions(lockedOptions(at)).flags;
    mountSyscall("", at, "", wanted | kept | MS_BIND | MS_REMOUNT, "");
  }
}
