import { renameSync, writeFileSync } from "node:fs";

/**
 * Writes a small file as a whole or, for whoever reads it after a kill, not at all. It need not survive the machine: neither
 * do the mounts that it is about.
 */
export function writeWhole(path: string, text: string): void {
  const temporaryPath = `${path}.new`;
  writeFileSync(temporaryPath, text, { mode: 0o600 });
  renameSync(temporaryPath, path);
}
