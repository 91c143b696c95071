import { compileFilters, type Filter } from "@oci-worker/filters/filters";
import type { Info } from "./snapshotter.ts";

/**
 * Reads the filters of a List request: see {@link compileFilters} for the language.
 *
 * The fields of a snapshot are `name`, `parent`, `kind` and `labels.KEY`. The first three always have a value, if only an
 * empty one.
 *
 * @param report told of each regular expression that cannot be used.
 * @throws {InvalidArgumentError} with the position, if a filter cannot be read.
 */
export function parseFilters(filters: readonly string[], report: (problem: string) => void): Filter<Info> {
  return compileFilters(filters, fieldOf, report);
}

/** The value of a field, or undefined if the snapshot has none there. What follows `name` and its like is ignored. */
function fieldOf([first, ...rest]: readonly string[]): (info: Info) => string | undefined {
  switch (first) {
    case "name":
      return (info) => info.name;
    case "parent":
      return (info) => info.parent ?? "";
    case "kind":
      return (info) => info.kind;
    case "labels": {
      const key = rest.join(".");
      return (info) => (Object.hasOwn(info.labels, key) ? info.labels[key] : undefined);
    }
    default:
      return () => undefined;
  }
}
