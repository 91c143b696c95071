import type { TomlTable, TomlValue } from "smol-toml";
import { isTable, type Kind, shown, WrongValueError } from "./kind.ts";
import { truth, wholeNumber } from "./kinds.ts";

/** Settings of the snapshotter for lazy layers, as its own config file has them. */
export type LazySettings = Readonly<Record<string, string | number | boolean>>;

type Translation = (value: TomlValue) => LazySettings;

/** The longest time that a timer can wait, in seconds. */
const maxSeconds = 2_147_483;
const seconds = wholeNumber(1, maxSeconds);
const count = wholeNumber(1, 1000);

/** A key of our own snapshotter, whose value it checks itself. */
const own =
  (key: string): Translation =>
  (value) => {
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
      return { [key]: value };
    }
    throw new WrongValueError("it is of the wrong type, want a text, a number or true or false");
  };

/** What stargz-snapshotter's config says, by path, in terms of ours; and ours as they are. */
const translations: Readonly<Record<string, Translation>> = {
  noprefetch: (value) => ({ lazyPrefetch: !truth.fromToml(value) }),
  no_background_fetch: (value) => ({ lazyBackgroundFetch: !truth.fromToml(value) }),
  prefetch_timeout_sec: (value) => ({ lazyPrefetchTimeoutMs: seconds.fromToml(value) * 1000 }),
  allow_no_verification: (value) => ({ lazyAllowUnverified: truth.fromToml(value) }),
  max_concurrency: (value) => ({ lazyMaxConcurrentFetches: count.fromToml(value) }),
  "blob.fetching_timeout_sec": (value) => ({ lazyFetchTimeoutMs: seconds.fromToml(value) * 1000 }),
  ...Object.fromEntries(
    [
      "lazyMode",
      "lazyCacheQuotaBytes",
      "lazyPrefetch",
      "lazyPrefetchTimeoutMs",
      "lazyBackgroundFetch",
      "lazyFetchTimeoutMs",
      "lazyOpenTimeoutMs",
      "lazyAllowUnverified",
      "lazyMaxConcurrentFetches",
    ].map((key) => [key, own(key)]),
  ),
};

/**
 * The table `[worker.oci.stargzSnapshotter]`: settings of stargz-snapshotter, of which our own knows the ones that mean
 * something to it, and its own ones.
 */
export const stargzTable: Kind<LazySettings> = {
  operand: "TABLE",
  fromText() {
    throw new WrongValueError("want a table, which only the file has");
  },
  fromToml(table) {
    return Object.assign({}, ...leaves(table).map(([path, value]) => translated(path, value)));
  },
  toToml: (settings) => ({ ...settings }),
  knownKeys: Object.keys(translations),
  unusedKeys: (table) =>
    leaves(table)
      .map(([path]) => path)
      .filter((path) => !Object.hasOwn(translations, path)),
};

function translated(path: string, value: TomlValue): LazySettings {
  const translate = Object.hasOwn(translations, path) ? translations[path] : undefined;
  try {
    return translate?.(value) ?? {};
  } catch (cause) {
    if (cause instanceof WrongValueError) {
      throw new WrongValueError(`failed to parse stargz config: ${path}: ${cause.message}`, { cause });
    }
    throw cause;
  }
}

/** Path and value of everything in the table that is no table. @throws {WrongValueError} if it is none itself. */
function leaves(table: TomlValue, above = ""): [path: string, value: TomlValue][] {
  if (!isTable(table)) {
    throw new WrongValueError(`failed to parse stargz config: it is ${shown(table)}, want a table`);
  }
  return Object.entries(table as TomlTable).flatMap(([key, value]): [string, TomlValue][] => {
    const path = above === "" ? key : `${above}.${key}`;
    return isTable(value) ? leaves(value, path) : [[path, value]];
  });
}
