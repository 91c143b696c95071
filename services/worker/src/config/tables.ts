import type { TomlTable, TomlValue } from "smol-toml";
import { isTable, type Kind, WrongValueError, wrongValue } from "./kind.ts";

/** A key of a table in a list of such, such as `keepDuration` of `[[worker.oci.gcpolicy]]`. */
export interface Field<T> {
  readonly kind: Kind<T>;
  /** Names that it had before, with the kind that it had under each if that was another one. */
  readonly former?: Readonly<Record<string, Kind<T> | undefined>>;
}

export type Row<Fields extends Readonly<Record<string, Field<unknown>>>> = {
  readonly [Key in keyof Fields]?: Fields[Key] extends Field<infer T> ? T : never;
};

/**
 * A list of tables, which only the file has.
 *
 * A key by a former name counts where the present name is not there.
 */
export function tables<const Fields extends Readonly<Record<string, Field<unknown>>>>(
  fields: Fields,
): Kind<readonly Row<Fields>[]> {
  const known = new Set(
    Object.entries(fields).flatMap(([key, { former = {} }]) => [key, ...Object.keys(former)]),
  );
  return {
    operand: "TABLES",
    fromText(value) {
      throw wrongValue(value, "a list of tables, which only the file has");
    },
    fromToml(value) {
      return rowsOf(value).map((row, index) => readRow(row, index, fields));
    },
    toToml: (rows) =>
      rows.map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([key, value]) => [key, fields[key]?.kind.toToml(value) ?? String(value)]),
        ),
      ),
    knownKeys: [...known],
    unusedKeys: (value) => rowsOf(value).flatMap((row) => Object.keys(row).filter((key) => !known.has(key))),
    warningsOf: (value) => rowsOf(value).flatMap((row) => formerNames(row, fields)),
  };
}

function rowsOf(value: TomlValue): readonly TomlTable[] {
  if (!Array.isArray(value) || !value.every(isTable)) {
    throw wrongValue(value, "a list of tables");
  }
  return value;
}

/** What is said under a former name, and what it is called now. */
function formerNames(row: TomlTable, fields: Readonly<Record<string, Field<unknown>>>): string[] {
  return Object.entries(fields).flatMap(([key, { former = {} }]) =>
    Object.keys(former)
      .filter((name) => Object.hasOwn(row, name))
      .map((name) =>
        Object.hasOwn(row, key)
          ? `${name} is left out, since ${key} is there`
          : `${name} is now called ${key}`,
      ),
  );
}

function readRow<Fields extends Readonly<Record<string, Field<unknown>>>>(
  row: TomlTable,
  index: number,
  fields: Fields,
): Row<Fields> {
  const values: Record<string, unknown> = {};
  for (const [key, { kind, former = {} }] of Object.entries(fields)) {
    const names = [
      [key, kind] as const,
      ...Object.entries(former).map(([name, was = kind]) => [name, was] as const),
    ];
    const [name, readAs] = names.find(([name]) => Object.hasOwn(row, name)) ?? [];
    const value = name === undefined ? undefined : row[name];
    if (value === undefined || readAs === undefined) {
      continue;
    }
    try {
      values[key] = readAs.fromToml(value);
    } catch (cause) {
      if (cause instanceof WrongValueError) {
        throw new WrongValueError(`${name} of table ${index + 1}: ${cause.message}`, { cause });
      }
      throw cause;
    }
  }
  return values as Row<Fields>;
}
