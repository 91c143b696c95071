import { mkdtempSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";

/**
 * Opens a new file in `directory` for reading and writing that is gone when it is closed, however this process ends.
 *
 * @returns its descriptor, which is for the caller to close.
 */
export function openNameless(directory: string): number {
  const own = mkdtempSync(join(directory, "estargz-"));
  try {
    return openSync(join(own, "file"), "wx+", 0o600);
  } finally {
    rmSync(own, { recursive: true });
  }
}
