import { parseGoDuration } from "../go-duration.ts";
import { type Kind, shown, WrongValueError } from "./kind.ts";

/**
 * A length of time in milliseconds: a Go duration such as "48h" or "1h30m", or a number of seconds.
 */
export const duration: Kind<number> = {
  operand: "DURATION",
  fromText: (value) => durationMs(value, value),
  fromToml: (value) => durationMs(value, String(value)),
  toToml: formatDuration,
};

function durationMs(value: unknown, text: string): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : (parseGoDuration(text) ?? Number.NaN);
  if (!Number.isSafeInteger(Math.round(ms))) {
    throw new WrongValueError(
      `invalid duration ${shown(value)}, want a number of seconds or a text such as "48h" or "1h30m"`,
    );
  }
  return Math.round(ms);
}

/** `ms` in the largest units that say it whole. */
function formatDuration(ms: number): string {
  for (const [unit, size] of [
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1000],
  ] as const) {
    if (ms % size === 0 && ms > 0) {
      return `${ms / size}${unit}`;
    }
  }
  return ms === 0 ? "0s" : `${ms}ms`;
}

/** Space on a disk: a number of bytes, or a share of the whole disk. */
export type DiskSpace = { readonly bytes: number } | { readonly percent: number };

const unitBytes = new Map([
  ["", 1],
  ["k", 2 ** 10],
  ["m", 2 ** 20],
  ["g", 2 ** 30],
  ["t", 2 ** 40],
  ["p", 2 ** 50],
]);

/**
 * {@link DiskSpace}: bytes, a size with a unit of 1024 such as "512MB", "20GiB" or "1.5g", or a percentage such as "10%".
 */
export const diskSpace: Kind<DiskSpace> = {
  operand: "SPACE",
  fromText: (value) => parseDiskSpace(value),
  fromToml: parseDiskSpace,
  toToml: (space) => ("bytes" in space ? space.bytes : `${space.percent}%`),
};

function parseDiskSpace(value: unknown): DiskSpace {
  const space =
    typeof value === "number" ? bytes(value) : typeof value === "string" ? ofText(value) : undefined;
  if (space === undefined) {
    throw new WrongValueError(
      `invalid disk space ${shown(value)}, want a number of bytes, a size such as "20GB" or a percentage such as "10%"`,
    );
  }
  return space;
}

function ofText(value: string): DiskSpace | undefined {
  const [, percent] = /^(\d+(?:\.\d+)?)\s*%$/.exec(value) ?? [];
  if (percent !== undefined) {
    return Number(percent) <= 100 ? { percent: Number(percent) } : undefined;
  }
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?$/i.exec(value) ?? [];
  const size = unitBytes.get(unit.toLowerCase());
  return number === undefined || size === undefined ? undefined : bytes(Math.floor(Number(number) * size));
}

function bytes(number: number): DiskSpace | undefined {
  return Number.isSafeInteger(number) && number >= 0 ? { bytes: number } : undefined;
}
