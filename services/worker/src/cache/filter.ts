import { InvalidArgumentError } from "@oci-worker/errdefs";
import { compileFilters, type Filter } from "@oci-worker/filters/filters";
import type { CacheRecord } from "./record.ts";

/**
 * Compiles filters of records. They have the fields `id`, `parents` (with ";" between them), `description` and `type`;
 * `inuse`, `mutable`, `immutable`, `shared` and `private` are there or not. No record is shared: the worker's snapshots
 * are its own.
 *
 * @param what they are for, in upstream's words: "prune" or "diskusage".
 * @throws {InvalidArgumentError} if a filter cannot be read.
 */
export function recordFilter(filters: readonly string[], what: "prune" | "diskusage"): Filter<CacheRecord> {
  const failed = (problem: string, cause?: unknown) =>
    new InvalidArgumentError(`failed to parse ${what} filters [${filters.join(" ")}]: ${problem}`, { cause });
  try {
    return compileFilters(
      filters,
      ([field]) =>
        (record) =>
          fieldOf(field, record),
      (problem) => {
        throw failed(problem);
      },
    );
  } catch (cause) {
    throw cause instanceof InvalidArgumentError && !cause.message.startsWith("failed to parse")
      ? failed(cause.message, cause)
      : cause;
  }
}

function fieldOf(field: string | undefined, record: CacheRecord): string | undefined {
  switch (field) {
    case "id":
      return record.id;
    case "parents":
      return record.parents.length > 0 ? record.parents.join(";") : undefined;
    case "description":
      return record.description === "" ? undefined : record.description;
    case "type":
      return record.type;
    case "inuse":
      return record.inUse ? "" : undefined;
    case "mutable":
      return record.mutable ? "" : undefined;
    case "immutable":
      return record.mutable ? undefined : "";
    case "private":
      return "";
    default:
      return undefined;
  }
}
