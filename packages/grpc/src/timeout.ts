import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Milliseconds of each unit of `grpc-timeout` (grpc/doc/PROTOCOL-HTTP2.md, "Timeout"). */
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** The largest delay that setTimeout takes; a larger one fires at once. About 24.8 days. */
const maxTimerMs = 2 ** 31 - 1;

/** The largest number that `grpc-timeout` can carry: eight digits. */
const maxDigits = 99_999_999;

/**
 * Reads a `grpc-timeout` header.
 *
 * @returns milliseconds, at most what a timer can wait.
 * @throws {InvalidArgumentError} if it is not 1 to 8 digits and one of the units H, M, S, m, u, n.
 */
export function parseTimeout(header: string): number {
  const match = /^(\d{1,8})([HMSmun])$/.exec(header);
  if (match === null) {
    throw new InvalidArgumentError(
      `Cannot read grpc-timeout: it is ${JSON.stringify(header)}, want up to 8 digits and a unit of H, M, S, m, u, n`,
    );
  }
  const [, digits = "0", unit = "m"] = match;
  return timerMs(Number(digits) * (unitMs[unit] ?? 1));
}

/** Writes a `grpc-timeout` header in the finest of milliseconds, seconds and minutes that holds `timeoutMs`. */
export function formatTimeout(timeoutMs: number): string {
  const ms = Math.max(0, Math.ceil(timeoutMs));
  if (ms <= maxDigits) {
    return `${ms}m`;
  }
  const seconds = Math.ceil(ms / 1000);
  return seconds <= maxDigits ? `${seconds}S` : `${Math.min(maxDigits, Math.ceil(seconds / 60))}M`;
}

/** `ms` as a delay that setTimeout honours. */
export function timerMs(ms: number): number {
  return Math.min(Math.max(0, ms), maxTimerMs);
}
