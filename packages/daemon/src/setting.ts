import { InvalidArgumentError } from "@oci-worker/errdefs";
import { nearest } from "@oci-worker/nearest";

/** The bytes of sun_path, its NUL left out (unix(7)). */
export const maxSocketPathBytes = 107;

/** The largest delay of a timer. */
const maxTimeoutMs = 2 ** 31 - 1;

/** Longest value that an error shows, in characters. */
const maxShownLength = 200;

/**
 * Refuses a key that is not one of `known`: a misspelt setting that is silently ignored is the worst kind of default.
 *
 * @throws {InvalidArgumentError} naming the first such key, the one that it may be meant for, and those that there are.
 */
export function refuseUnknownKeys(raw: object, known: object): void {
  const unknown = Object.keys(raw).find((key) => !Object.hasOwn(known, key));
  if (unknown !== undefined) {
    const keys = Object.keys(known);
    const meant = nearest(unknown, keys);
    const all = keys.join(", ");
    throw new InvalidArgumentError(
      `Cannot read config: unknown key ${JSON.stringify(unknown)}, want ${meant === undefined ? `one of ${all}` : `${meant} (or another of ${all})`}`,
    );
  }
}

/**
 * The path of a unix socket, which may have `unix://` before it.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function socketPath(key: string, value: unknown): string {
  const path = text(key, value).replace(/^unix:\/\//, "");
  if (!path.startsWith("/") || Buffer.byteLength(path) > maxSocketPathBytes) {
    throw wrongSetting(
      key,
      value,
      `an absolute path of at most ${maxSocketPathBytes} bytes, with or without unix:// before it`,
    );
  }
  return path;
}

/**
 * A path from the root, given back without doubled slashes and without one at its end: it becomes part of mount options,
 * and is compared.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function absolutePath(key: string, value: unknown): string {
  const path = text(key, value);
  if (!path.startsWith("/") || path.includes("\0")) {
    throw wrongSetting(key, value, "an absolute path");
  }
  return path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1");
}

/** @throws {InvalidArgumentError} naming the key, for anything but a text with something in it. */
export function text(key: string, value: unknown): string {
  if (typeof value !== "string" || value === "") {
    throw wrongSetting(key, value, "a text that is not empty");
  }
  return value;
}

/**
 * A list of texts, none of them empty. The environment has no lists: there they are one text, with commas between them.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function texts(key: string, value: unknown): string[] {
  const list: unknown = typeof value === "string" ? value.split(",").map((each) => each.trim()) : value;
  if (!Array.isArray(list) || !list.every((each) => typeof each === "string" && each !== "")) {
    throw wrongSetting(key, value, "a list of texts that are not empty");
  }
  return list;
}

/** The environment has no booleans: `"true"` and `"false"` will do. @throws {InvalidArgumentError} naming the key. */
export function truth(key: string, value: unknown): boolean {
  if (value === true || value === "true") {
    return true;
  }
  if (value === false || value === "false") {
    return false;
  }
  throw wrongSetting(key, value, "true or false");
}

/**
 * A whole number of milliseconds that a timer can wait, `least` or more. Digits will do, as the environment has no numbers.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function milliseconds(key: string, value: unknown, least: number): number {
  const number = typeof value === "string" && /^[0-9]{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number !== "number" || !Number.isInteger(number) || number < least || number > maxTimeoutMs) {
    throw wrongSetting(key, value, `a whole number of milliseconds from ${least} to ${maxTimeoutMs}`);
  }
  return number;
}

/**
 * A whole number, `least` or more. Digits will do, as the environment has no numbers.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function wholeNumber(key: string, value: unknown, least: number): number {
  const number = typeof value === "string" && /^[0-9]{1,16}$/.test(value) ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number) || number < least) {
    throw wrongSetting(key, value, `a whole number from ${least} on`);
  }
  return number;
}

/** One of `names`. @throws {InvalidArgumentError} naming the key. */
export function oneOf<Name extends string>(key: string, value: unknown, names: readonly Name[]): Name {
  const name = names.find((known) => known === value);
  if (name === undefined) {
    throw wrongSetting(key, value, `one of ${names.join(", ")}`);
  }
  return name;
}

/**
 * Any of `names`, as a list or, in the environment, with commas between them.
 *
 * @throws {InvalidArgumentError} naming the key.
 */
export function someOf<Name extends string>(key: string, value: unknown, names: readonly Name[]): Name[] {
  const items: unknown = typeof value === "string" ? value.split(",") : value;
  if (!Array.isArray(items)) {
    throw wrongSetting(key, value, `a list of any of ${names.join(", ")}`);
  }
  return items.map((item) => oneOf(key, item, names));
}

/** The error that says what `key` is, and what is wanted. */
export function wrongSetting(key: string, value: unknown, wanted: string): InvalidArgumentError {
  const shown = typeof value === "bigint" ? String(value) : (JSON.stringify(value) ?? "nothing");
  return new InvalidArgumentError(
    `Cannot read config: ${key} is ${shown.slice(0, maxShownLength)}, want ${wanted}`,
  );
}
