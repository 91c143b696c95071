import { readFile } from "node:fs/promises";
import type { Holder } from "@oci-worker/fuse/holder";
import { codeOf } from "./error-code.ts";
import { writeWhole } from "./write-whole.ts";

/** What a FUSE mount has: the data devices of layers as files, or the files of layers. */
export type HeldKind = "blobs" | "trees";

/** What a process leaves behind of a FUSE mount, for those that come after it. */
export interface HeldRecord {
  readonly target: string;
  readonly kind: HeldKind;
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

export function writeRecord(path: string, record: HeldRecord): void {
  writeWhole(path, JSON.stringify(record));
}
