import { open, readFile, rename } from "node:fs/promises";
import type { Holder } from "@oci-worker/fuse/holder";
import { codeOf } from "./error-code.ts";

/** A layer whose files are served one by one. */
export interface ServedLayer {
  readonly number: number;
  readonly metaPath: string;
}

/** What a process leaves behind of a FUSE mount, for those that come after it. */
export interface HeldRecord {
  readonly target: string;
  readonly layer?: ServedLayer;
  readonly holder: Holder;
  /** Of the mount, as "0:53"; not there before it is made. */
  readonly device?: string;
}

/** @returns undefined if there is none, or half of one. */
export async function readRecord(path: string): Promise<HeldRecord | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (codeOf(error) === "ENOENT" || error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** As a whole or not at all. It need not survive the machine, which mounts do not either. */
export async function writeRecord(path: string, record: HeldRecord): Promise<void> {
  const temporaryPath = `${path}.new`;
  await using file = await open(temporaryPath, "w", 0o600);
  await file.writeFile(JSON.stringify(record));
  await rename(temporaryPath, path);
}
