import { mkdirSync, renameSync } from "node:fs";
import { syncDirectory } from "../backends/directory-sync.ts";
import { fillActiveDirectory } from "../backends/overlayfs/directory.ts";

const privateMode = 0o700;

/**
 * Makes in `directory` a directory for each of `ids`, such as an active snapshot of overlayfs has, and waits until they
 * are on disk.
 */
export function makeSpareDirectories(directory: string, ids: readonly number[]): void {
  for (const id of ids) {
    const staging = `${directory}/new-${id}`;
    mkdirSync(staging, privateMode);
    fillActiveDirectory(staging, undefined);
    // Last, so that what is in it is on disk when its name is.
    renameSync(staging, `${directory}/${id}`);
  }
  syncDirectory(directory);
}
