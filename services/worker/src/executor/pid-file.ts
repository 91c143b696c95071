import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Where the runtime writes the number of a container's first process when it has started that. */
export function pidFileIn(bundle: string): string {
  return join(bundle, "pid");
}

/** Undefined if the file is not there, or not whole. */
export async function pidIn(path: string): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^[1-9]\d*$/.test(text.trim()) ? Number(text) : undefined;
}
