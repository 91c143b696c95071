import type { TomlTable, TomlValue } from "smol-toml";

/**
 * A kind of value that a setting can have: how the command line, the environment and buildkitd.toml say it, and what is
 * wrong with one.
 */
export interface Kind<T> {
  /** What --help shows behind the flag, such as "DIR"; undefined for a switch, which takes no value. */
  readonly operand: string | undefined;
  /**
   * Reads what a flag or a variable says.
   *
   * @throws {WrongValueError} saying what is wanted.
   */
  fromText(text: string): T;
  /**
   * Reads what the file says.
   *
   * @throws {WrongValueError} saying what is wanted.
   */
  fromToml(value: TomlValue): T;
  /** How the file would say it. */
  toToml(value: T): TomlValue;
  /** Puts what a flag says to what it has said already; undefined if its last occurrence is what counts. */
  append?(earlier: T, later: T): T;
  /** Lays what a stronger source says over what a weaker one does; undefined if it takes its place. */
  overlay?(weaker: T, stronger: T): T;
  /** Paths of keys in a table of the file that the setting does not read, without the setting's own before them. */
  unusedKeys?(value: TomlValue): string[];
  /** Keys that such a table may have, for guessing what an unused one was meant to be. */
  readonly knownKeys?: readonly string[];
  /** What the operator should know of a value of the file that is taken as it is. */
  warningsOf?(value: TomlValue): string[];
}

/** What is wrong with a value. Whoever asked for it adds the flag or key that has it. */
export class WrongValueError extends Error {}

/** Longest value that an error shows, in characters. */
const maxShownLength = 200;

/** The error that says what a value is, and what is wanted. */
export function wrongValue(value: unknown, wanted: string): WrongValueError {
  return new WrongValueError(`it is ${shown(value)}, want ${wanted}`);
}

/** A value for an error: all of it on one line, and not too much of it. */
export function shown(value: unknown): string {
  const text = typeof value === "bigint" ? String(value) : (JSON.stringify(value) ?? "nothing");
  return text.length > maxShownLength ? `${text.slice(0, maxShownLength)}...` : text;
}

export function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
