import { UsageError } from "./usage-error.ts";

/** Bytes of units, in powers of 1000 as they are shown. */
const unitBytes: Readonly<Record<string, number>> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * The size that a flag says, in bytes: `1.5GB`, `200MB`.
 *
 * @param plainUnitBytes what a number without unit counts.
 * @throws {UsageError} naming the flag.
 */
export function parseSize(flag: string, text: string, plainUnitBytes: number): number {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmgt]?b)?$/i.exec(text) ?? [];
  if (number === undefined) {
    throw new UsageError(`Cannot use --${flag} ${JSON.stringify(text)}: want a size such as 500MB or 10GB`);
  }
  return Math.round(Number(number) * (unitBytes[unit.toLowerCase()] ?? plainUnitBytes));
}

/** The length of time that a flag says, in milliseconds: `90s`, `1h30m`, `7d`. @throws {UsageError} naming the flag. */
export function parseDuration(flag: string, text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text) {
    throw new UsageError(`Cannot use --${flag} ${JSON.stringify(text)}: want a time such as 90s, 24h or 7d`);
  }
  return parts.reduce((sum, [, number, unit = ""]) => sum + Number(number) * (unitMs[unit] ?? 0), 0);
}
