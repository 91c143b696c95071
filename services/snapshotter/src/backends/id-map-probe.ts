import { lstat, writeFile } from "node:fs/promises";
import { type Mount, mountAll } from "@oci-worker/mounts/mount";
import { makeProbeDirectory, type ProbeDirectory } from "./probe-directory.ts";

/** Shows what root owns as the user and group 1. */
const options = ["uidmap=0:1:1", "gidmap=0:1:1"];

/** A bind mount of what is probed. */
export function bindIn({ lower }: ProbeDirectory): Mount {
  return { type: "bind", source: lower, options: ["rbind"] };
}

/**
 * Finds out why snapshots on `root` cannot be shown with other ids than they have on disk, by showing a file so;
 * undefined if they can. Linux maps ids since 5.12, beneath an overlay since 5.19, on some file systems later or never.
 *
 * @param mountOf the mount of a backend that shows the directory `lower`.
 */
export async function probeIDMap(
  root: string,
  mountOf: (directory: ProbeDirectory) => Mount,
): Promise<string | undefined> {
  try {
    await using directory = await makeProbeDirectory(`${root}/probe-ids`);
    await writeFile(`${directory.lower}/file`, "");
    const mount = mountOf(directory);
    await mountAll([{ ...mount, options: [...options, ...mount.options] }], directory.merged);
    const { uid, gid } = await lstat(`${directory.merged}/file`);
    return uid === 1 && gid === 1 ? undefined : `a file of root is shown as ${uid}:${gid}, want 1:1`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
