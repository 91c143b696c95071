import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { DataLossError } from "@oci-worker/errdefs";
import type { LayerIdentity } from "../../lazy/lazy-layers.ts";
import { syncDirectory } from "../directory-sync.ts";

/** In the directory of a snapshot, beside its content: which layer is to be mounted there. */
function noteIn(directory: string): string {
  return `${directory}/layer.json`;
}

/**
 * Notes, durably, that the content of the snapshot in `directory` is `layer`. Labels would not do: clients change them,
 * and an empty directory in the place of a layer is a layer without files.
 */
export function noteLayer(directory: string, { digest, tocDigest }: LayerIdentity): void {
  const fd = openSync(noteIn(directory), "wx", 0o600);
  try {
    writeSync(fd, JSON.stringify({ digest, tocDigest }));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  syncDirectory(directory);
}

/**
 * The layer that is to be mounted in `directory`; undefined if its content is there as files.
 *
 * @throws {DataLossError} if nobody can read which one it is.
 */
export function notedLayer(directory: string): LayerIdentity | undefined {
  const path = noteIn(directory);
  if (!existsSync(path)) {
    return undefined;
  }
  try {
    const { digest, tocDigest } = JSON.parse(readFileSync(path, "utf8"));
    if (typeof digest === "string" && typeof tocDigest === "string") {
      return { digest, tocDigest };
    }
  } catch (cause) {
    throw new DataLossError(`Cannot read ${path}: which layer is to be mounted there is lost`, { cause });
  }
  throw new DataLossError(`Cannot read ${path}: it names no layer, want digest and tocDigest`);
}
