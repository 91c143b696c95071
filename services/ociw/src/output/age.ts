/** Units from the largest, each with its length in seconds. */
const units = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
] as const;

/** How long ago the moment `ns` (nanoseconds since 1970) was, in one unit: `5s`, `3m`, `26h`, `14d`. */
export function formatAge(ns: bigint, nowMs: number): string {
  if (ns <= 0n) {
    return "-";
  }
  const seconds = Math.max(0, Math.floor(nowMs / 1000 - Number(ns / 1_000_000_000n)));
  // Below two of a unit the smaller one says more.
  const [unit, length] = units.find(([, each]) => seconds >= 2 * each) ?? ["s", 1];
  return `${Math.floor(seconds / length)}${unit}`;
}
