import { InvalidArgumentError } from "@oci-worker/errdefs";
import { compileFilters } from "@oci-worker/filters/filters";
import { parseGoDuration } from "../go-duration.ts";
import type { BuildRecord } from "./build-record.ts";

/** Decides whether a build is told of. */
export type HistoryFilter = (record: BuildRecord) => boolean;

/** A comparison of a time or a length of time, which containerd's filters do not have. */
const comparison = /^(startedAt|completedAt|duration)(>=|<=|>|<)(.*)$/s;

/**
 * Reads filters of builds, as BuildKit has them since v0.20: containerd's over `ref`, `status` (running, completed, error,
 * canceled) and `repository`, and with commas between them comparisons of `startedAt` and `completedAt` with a time (RFC
 * 3339) or with how long ago that is, and of `duration`.
 *
 * @throws {InvalidArgumentError} if one cannot be read.
 */
export function historyFilter(filters: readonly string[], nowMs: number): HistoryFilter {
  const alternatives = filters.map((filter) => oneFilter(filter, nowMs));
  return (record) => alternatives.length === 0 || alternatives.some((matches) => matches(record));
}

function oneFilter(filter: string, nowMs: number): HistoryFilter {
  // A quoted value may have commas in it.
  const parts = filter.match(/(?:"(?:[^"\\]|\\.)*"|[^,"])+/gs) ?? [];
  const checks: HistoryFilter[] = [];
  const others: string[] = [];
  for (const part of parts) {
    const [, field, operator, value] = comparison.exec(part) ?? [];
    if (field === undefined || operator === undefined || value === undefined) {
      others.push(part);
    } else {
      checks.push(compared(field, operator, value, nowMs));
    }
  }
  const failed = (problem: string, cause?: unknown) =>
    new InvalidArgumentError(`failed to parse history filters ${filter}: ${problem}`, { cause });
  try {
    const matches = compileFilters<BuildRecord>(
      [others.join(",")],
      ([field]) =>
        (record) =>
          fieldOf(field, record),
      (problem) => {
        throw failed(problem);
      },
    );
    return (record) => matches(record) && checks.every((check) => check(record));
  } catch (cause) {
    throw cause instanceof InvalidArgumentError && !cause.message.startsWith("failed to parse")
      ? failed(cause.message, cause)
      : cause;
  }
}

function compared(field: string, operator: string, value: string, nowMs: number): HistoryFilter {
  const limit = field === "duration" ? durationOf(value) : timeOf(value, nowMs);
  return ({ createdAtMs, completedAtMs }) => {
    const of = {
      startedAt: createdAtMs,
      completedAt: completedAtMs,
      duration: lengthOf(createdAtMs, completedAtMs),
    };
    const measured = of[field as keyof typeof of] ?? 0;
    switch (operator) {
      case ">=":
        return measured >= limit;
      case "<=":
        return measured <= limit;
      case ">":
        return measured > limit;
      default:
        return measured < limit;
    }
  };
}

function lengthOf(createdAtMs: number, completedAtMs: number | undefined): number {
  return completedAtMs === undefined ? 0 : completedAtMs - createdAtMs;
}

function timeOf(value: string, nowMs: number): number {
  const ago = parseGoDuration(value);
  if (ago !== undefined) {
    return nowMs - ago;
  }
  const time = /^\d{4}-\d{2}-\d{2}T/.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time)) {
    throw new InvalidArgumentError(
      `invalid time ${JSON.stringify(value)}, want a time such as 2026-01-02T15:04:05Z, or how long ago, such as 24h`,
    );
  }
  return time;
}

function durationOf(value: string): number {
  const duration = parseGoDuration(value);
  if (duration === undefined) {
    throw new InvalidArgumentError(
      `invalid duration ${JSON.stringify(value)}, want one such as 90s or 1h30m`,
    );
  }
  return duration;
}

function fieldOf(field: string | undefined, record: BuildRecord): string | undefined {
  switch (field) {
    case "ref":
      return record.ref;
    case "status":
      return statusOf(record);
    case "repository":
      return record.frontendAttrs["vcs:source"] ?? repositoryOf(record.frontendAttrs["context"]);
    default:
      return undefined;
  }
}

function statusOf({ completedAtMs, error }: BuildRecord): string {
  if (completedAtMs === undefined) {
    return "running";
  }
  if (error === undefined) {
    return "completed";
  }
  return error.reason === "CANCELED" || error.message.includes("context canceled") ? "canceled" : "error";
}

/** The remote of a context that is a git repository: the part before the fragment. */
function repositoryOf(context: string | undefined): string | undefined {
  return context !== undefined && /^(https?|ssh|git):\/\/|^[\w.-]+@[\w.-]+:/.test(context)
    ? context.split("#", 1)[0]
    : undefined;
}
