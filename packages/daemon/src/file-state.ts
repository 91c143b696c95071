import type { BigIntStats } from "node:fs";

/** A file that has changed so recently may change again without its times telling: a kernel's clock ticks in milliseconds. */
const restlessMs = 20;

/** What tells a file from what it was before, as text: one that has changed, or is another one, has another state. */
export function fileState({ ino, mtimeNs, ctimeNs, size }: BigIntStats): string {
  return `${ino}:${mtimeNs}:${ctimeNs}:${size}`;
}

/** Whether a file that changes from now on has another {@link fileState}. To be asked when it has been read. */
export function isSettled({ ctimeMs }: BigIntStats): boolean {
  return Date.now() - Number(ctimeMs) > restlessMs;
}
