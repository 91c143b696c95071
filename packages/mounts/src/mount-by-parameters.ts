import { closeSync } from "node:fs";
import {
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  moveMount,
} from "@oci-worker/libc/mount";
import type { Mount } from "./mount.ts";
import type { ParsedOptions } from "./options.ts";

/** Mount attributes of fsmount(2) for the flags of mount(2) that an overlay may carry. */
const attributes: readonly (readonly [bigint, number])[] = [
  [MS_RDONLY, 0x1],
  [MS_NOSUID, 0x2],
  [MS_NODEV, 0x4],
  [MS_NOEXEC, 0x8],
];

/**
 * Mounts a file system whose options are longer than the page that mount(2) takes, such as an overlay of a hundred
 * layers: each parameter is told in a call of its own, and each lower directory too (`lowerdir+`, Linux 6.5).
 */
export function mountByParameters(mount: Mount, at: string, { flags, data }: ParsedOptions): void {
  using closing = new DisposableStack();
  const context = fsopen(mount.type);
  closing.defer(() => closeSync(context));
  fsconfigString(context, "source", mount.source);
  for (const [key, value] of mountParameters(data)) {
    if (value === undefined) {
      fsconfigFlag(context, key);
    } else {
      fsconfigString(context, key, value);
    }
  }
  fsconfigCreate(context);
  const wanted = attributes.reduce((bits, [flag, bit]) => ((flags & flag) === 0n ? bits : bits | bit), 0);
  const detached = fsmount(context, wanted);
  closing.defer(() => closeSync(detached));
  moveMount(detached, at);
}

/** Options of a file system as parameters, one by one; a value is undefined for those that are only named. */
export function mountParameters(options: readonly string[]): [key: string, value: string | undefined][] {
  return options.flatMap((option): [string, string | undefined][] => {
    const [, key = option, value] = /^([^=]+)=(.*)$/s.exec(option) ?? [];
    if (key === "lowerdir" && value !== undefined) {
      return value.split(":").map((directory) => ["lowerdir+", directory]);
    }
    // Among others in one text the label of SELinux is in quotation marks, as it has commas (mount(8)); here nobody takes them off.
    return [[key, key === "context" ? value?.replace(/^"(.*)"$/s, "$1") : value]];
  });
}
