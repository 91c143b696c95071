import { InvalidArgumentError } from "@oci-worker/errdefs";
import {
  MS_BIND,
  MS_DIRSYNC,
  MS_LAZYTIME,
  MS_MANDLOCK,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REC,
  MS_RELATIME,
  MS_REMOUNT,
  MS_SHARED,
  MS_SILENT,
  MS_SLAVE,
  MS_STRICTATIME,
  MS_SYNCHRONOUS,
  MS_UNBINDABLE,
} from "@oci-worker/libc/mount";
import { parseIDMap } from "./id-map.ts";

/** What {@link parseIDMap} has checked. */
export interface IDMapTexts {
  readonly uids: string;
  readonly gids: string;
}

/** What fstab options say to mount(2). */
export interface ParsedOptions {
  readonly flags: bigint;
  /** Propagation of the new mount, which takes a call of its own; 0 leaves it as it is. */
  readonly propagation: bigint;
  /** Texts of the maps by which ids are shown; undefined if they are shown as they are. */
  readonly idMap: IDMapTexts | undefined;
  /** What the file system itself is told, in order. */
  readonly data: readonly string[];
}

/** Options of mount(8) that set a flag, and those that clear one. */
const setting: Readonly<Record<string, bigint>> = {
  bind: MS_BIND,
  dirsync: MS_DIRSYNC,
  lazytime: MS_LAZYTIME,
  mand: MS_MANDLOCK,
  noatime: MS_NOATIME,
  nodev: MS_NODEV,
  nodiratime: MS_NODIRATIME,
  noexec: MS_NOEXEC,
  nosuid: MS_NOSUID,
  nosymfollow: MS_NOSYMFOLLOW,
  rbind: MS_BIND | MS_REC,
  relatime: MS_RELATIME,
  remount: MS_REMOUNT,
  ro: MS_RDONLY,
  silent: MS_SILENT,
  strictatime: MS_STRICTATIME,
  sync: MS_SYNCHRONOUS,
};
const clearing: Readonly<Record<string, bigint>> = {
  async: MS_SYNCHRONOUS,
  atime: MS_NOATIME,
  dev: MS_NODEV,
  diratime: MS_NODIRATIME,
  exec: MS_NOEXEC,
  loud: MS_SILENT,
  nolazytime: MS_LAZYTIME,
  nomand: MS_MANDLOCK,
  norelatime: MS_RELATIME,
  nostrictatime: MS_STRICTATIME,
  rw: MS_RDONLY,
  suid: MS_NOSUID,
  symfollow: MS_NOSYMFOLLOW,
};
const propagating: Readonly<Record<string, bigint>> = {
  private: MS_PRIVATE,
  rprivate: MS_PRIVATE | MS_REC,
  rshared: MS_SHARED | MS_REC,
  rslave: MS_SLAVE | MS_REC,
  runbindable: MS_UNBINDABLE | MS_REC,
  shared: MS_SHARED,
  slave: MS_SLAVE,
  unbindable: MS_UNBINDABLE,
};

/** Options that mean something to other mounters than the kernel, so that passing them on would fail obscurely. */
const foreign = /^(loop$|X-)/;

/**
 * Reads the options of fstab(5). Later ones override earlier ones, as in mount(8).
 *
 * @throws {InvalidArgumentError} for an option that this mounter cannot carry out.
 */
export function parseOptions(options: readonly string[]): ParsedOptions {
  let flags = 0n;
  let propagation = 0n;
  const data: string[] = [];
  const idMaps = new Map<string, string>();
  for (const option of options) {
    if (foreign.test(option)) {
      throw new InvalidArgumentError(
        `Cannot mount with option ${JSON.stringify(option)}: it is not supported here`,
      );
    }
    const [, mapOption, map] = /^([ug]idmap)=(.*)$/s.exec(option) ?? [];
    if (mapOption !== undefined && map !== undefined) {
      parseIDMap(`option ${mapOption}`, map);
      idMaps.set(mapOption, map);
    } else if (Object.hasOwn(setting, option)) {
      flags |= setting[option] ?? 0n;
    } else if (Object.hasOwn(clearing, option)) {
      flags &= ~(clearing[option] ?? 0n);
    } else if (Object.hasOwn(propagating, option)) {
      propagation = propagating[option] ?? 0n;
    } else if (option !== "defaults" && option !== "") {
      data.push(option);
    }
  }
  return { flags, propagation, idMap: bothMaps(idMaps), data };
}

function bothMaps(idMaps: ReadonlyMap<string, string>): IDMapTexts | undefined {
  const uids = idMaps.get("uidmap");
  const gids = idMaps.get("gidmap");
  if (uids !== undefined && gids !== undefined) {
    return { uids, gids };
  }
  if (idMaps.size === 0) {
    return undefined;
  }
  throw new InvalidArgumentError("Cannot mount with one of uidmap and gidmap, want both or none");
}
