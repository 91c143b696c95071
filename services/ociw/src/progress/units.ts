const units = ["B", "kB", "MB", "GB", "TB"] as const;
const step = 1000;

/** Bytes for people: `512B`, `1.5MB`, in powers of 1000 as registries and disks have them. */
export function formatBytes(bytes: number): string {
  const whole = Math.max(0, bytes);
  const power = Math.min(units.length - 1, whole < step ? 0 : Math.floor(Math.log10(whole) / 3));
  const value = whole / step ** power;
  const digits = power === 0 ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)}${units[power]}`;
}

/** Seconds with one decimal: `0.3s`. */
export function formatDuration(ms: number): string {
  return `${(Math.max(0, ms) / 1000).toFixed(1)}s`;
}
