import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseFilter, type Selector } from "./parse.ts";
import { compileRegexp, type Regexp, RegexpError } from "./regexp/regexp.ts";

/** Decides whether something is listed. */
export type Filter<T> = (item: T) => boolean;

/** Gives what reads the field `path` of an item: its value, or undefined where there is no such field. */
export type Fields<T> = (path: readonly string[]) => (item: T) => string | undefined;

/** All filters of one request together, so that reading and applying them stays cheap. */
const maxFilterChars = 64 * 1024;

/**
 * Reads filters in containerd's language (containerd v1.6, package filters).
 *
 * A filter is a list of selectors with commas between them, all of which must hold:
 *
 * ```text
 * kind==committed,labels."containerd.io/snapshot.ref"==sha256:0b1c
 * parent!="",name~=/^default\\/[0-9]+\\//
 * labels.pinned
 * ```
 *
 * An item is listed if any of the filters matches, and always if there are none or one is empty. A field that does not
 * exist has no value. `==` wants a value and that it is equal, `!=` that it is not equal (which no value is), `~=` that
 * the regular expression is found in it. A field alone wants that it has a value.
 *
 * @param report told of each regular expression that cannot be used. As in containerd, it then matches nothing and
 *   the filter still counts: a client's other filters work on.
 * @throws {InvalidArgumentError} with the position, if a filter cannot be read.
 */
export function compileFilters<T>(
  filters: readonly string[],
  fields: Fields<T>,
  report: (problem: string) => void,
): Filter<T> {
  const chars = filters.reduce((sum, filter) => sum + filter.length, 0);
  if (chars > maxFilterChars) {
    throw new InvalidArgumentError(
      `Cannot read filters: they have ${chars} characters, want at most ${maxFilterChars}`,
    );
  }
  if (filters.length === 0 || filters.includes("")) {
    return () => true;
  }
  const alternatives = filters.map((filter) => {
    const checks = parseFilter(filter).map((selector) => checkOf(selector, fields, report));
    return (item: T) => checks.every((check) => check(item));
  });
  return (item) => alternatives.some((matches) => matches(item));
}

function checkOf<T>(
  { path, condition }: Selector,
  fields: Fields<T>,
  report: (problem: string) => void,
): Filter<T> {
  const field = fields(path);
  switch (condition.operator) {
    case "present":
      return (item) => field(item) !== undefined;
    case "==":
      return (item) => field(item) === condition.value;
    case "!=":
      return (item) => (field(item) ?? "") !== condition.value;
    case "~=": {
      const regexp = compile(condition.value, report);
      return regexp === undefined ? () => false : (item) => regexp.test(field(item) ?? "");
    }
  }
}

function compile(source: string, report: (problem: string) => void): Regexp | undefined {
  try {
    return compileRegexp(source);
  } catch (error) {
    if (error instanceof RegexpError) {
      report(error.message);
      return undefined;
    }
    throw error;
  }
}
