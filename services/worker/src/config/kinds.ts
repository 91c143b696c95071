import { isAbsolute, normalize, resolve } from "node:path";
import { maxSocketPathBytes } from "@oci-worker/daemon/setting";
import { nearest } from "@oci-worker/nearest";
import type { TomlValue } from "smol-toml";
import { isTable, type Kind, shown, WrongValueError, wrongValue } from "./kind.ts";

/**
 * A kind that the file says as text, too.
 *
 * @param operand for --help.
 * @param parse checks and converts; by {@link WrongValueError} it says what is wanted.
 */
export function textual<T>(
  operand: string,
  parse: (text: string) => T,
  toToml: (value: T) => TomlValue = (value) => String(value),
): Kind<T> {
  return {
    operand,
    fromText: parse,
    fromToml(value) {
      if (typeof value !== "string") {
        throw wrongValue(value, "a text");
      }
      return parse(value);
    },
    toToml,
  };
}

/** Any text. */
export const text = textual("TEXT", (value) => value);

/** Any text, which whoever uses it looks up. @param operand for --help. */
export const named = (operand: string) => textual(operand, (value) => value);

/** A path from the root, given back without doubled slashes and without one at its end. */
export const path = textual("PATH", absolutePath);

/** A path as people type it: from the working directory if not from the root. */
export const file = textual("FILE", (value) => {
  if (value === "" || value.includes("\0")) {
    throw wrongValue(value, "a path");
  }
  return resolve(value);
});

/** A directory, from the root. */
export const directory = textual("DIR", absolutePath);

/** The path of a unix socket, with or without `unix://` before it. */
export const socket = textual("SOCKET", socketPath);

function absolutePath(value: string): string {
  if (!isAbsolute(value) || value.includes("\0")) {
    throw wrongValue(value, "an absolute path");
  }
  return normalize(value).replace(/(.)\/$/, "$1");
}

/** @throws {WrongValueError} for what is no path that a unix socket can have. */
export function socketPath(value: string): string {
  const socketPath = value.replace(/^unix:\/\//, "");
  if (
    !isAbsolute(socketPath) ||
    socketPath.includes("\0") ||
    Buffer.byteLength(socketPath) > maxSocketPathBytes
  ) {
    throw wrongValue(value, `an absolute path of at most ${maxSocketPathBytes} bytes`);
  }
  return socketPath;
}

/**
 * One of `names`.
 *
 * @param options.unknown what upstream says of another one, where its users know the words.
 * @param options.alias other spellings of the names.
 */
export function oneOf<const Name extends string>(
  names: readonly Name[],
  options: {
    readonly unknown?: (text: string) => string;
    readonly alias?: Readonly<Record<string, Name>>;
    readonly operand?: string;
  } = {},
): Kind<Name> {
  const { alias = {}, operand = names.join("|"), unknown } = options;
  return textual(operand, (value) => {
    const name = Object.hasOwn(alias, value) ? alias[value] : names.find((known) => known === value);
    if (name === undefined) {
      throw new WrongValueError(
        `${unknown?.(shown(value)) ?? `it is ${shown(value)}`}, want ${oneOfText(value, names)}`,
      );
    }
    return name;
  });
}

/** The same, of which capitals are as good as small letters. */
export function inAnyCase<T>(kind: Kind<T>): Kind<T> {
  const folded = <V>(value: V) => (typeof value === "string" ? (value.toLowerCase() as V) : value);
  return {
    ...kind,
    fromText: (value) => kind.fromText(folded(value)),
    fromToml: (value) => kind.fromToml(folded(value)),
  };
}

function oneOfText(value: string, names: readonly string[]): string {
  const meant = value === "" ? undefined : nearest(value, names);
  const all = names.join(", ");
  return meant === undefined || names.length < 2 ? `one of ${all}` : `${meant} (or another of ${all})`;
}

/** Yes or no; the flag alone means yes. Go's spellings will do (strconv.ParseBool). */
export const truth: Kind<boolean> = {
  operand: undefined,
  fromText: parseTruth,
  fromToml(value) {
    if (typeof value !== "boolean") {
      throw wrongValue(value, "true or false");
    }
    return value;
  },
  toToml: (value) => value,
};

/** Yes, no, or for the program to find out. The file has it as a boolean. */
export const truthOrAuto: Kind<boolean | "auto"> = {
  operand: "auto|true|false",
  fromText: (value) => (value === "auto" || value === "" ? "auto" : parseTruth(value, "auto, true or false")),
  fromToml(value) {
    if (typeof value !== "boolean" && value !== "auto") {
      throw wrongValue(value, "true or false, or nothing for auto");
    }
    return value;
  },
  toToml: (value) => value,
};

function parseTruth(value: string, wanted = "true or false"): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(value)) {
    return true;
  }
  if (/^(0|f|F|FALSE|false|False)$/.test(value)) {
    return false;
  }
  throw wrongValue(value, wanted);
}

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  const check = (value: unknown, number: number) => {
    if (!Number.isSafeInteger(number) || number < least || number > most) {
      const upTo = most === Number.MAX_SAFE_INTEGER ? "on" : `to ${most}`;
      throw wrongValue(value, `a whole number from ${least} ${upTo}`);
    }
    return number;
  };
  return {
    operand: "NUMBER",
    fromText: (value) => check(value, /^-?[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN),
    fromToml: (value) => check(value, typeof value === "number" ? value : Number.NaN),
    toToml: (value) => value,
  };
}

/** A list of `each`; the flag may be given more than once. */
export function listOf<T>(each: Kind<T>): Kind<readonly T[]> {
  return {
    operand: each.operand ?? "true|false",
    fromText: (value) => [each.fromText(value)],
    fromToml(value) {
      if (!Array.isArray(value)) {
        throw wrongValue(value, "a list");
      }
      return value.map((item) => each.fromToml(item));
    },
    toToml: (values) => values.map((value) => each.toToml(value)),
    append: (earlier, later) => [...earlier, ...later],
  };
}

/** Texts; the flag may be given more than once. */
export const texts = listOf(text);

/** Texts in one, with commas between them; empty ones are left out. */
export function separated(operand: string): Kind<readonly string[]> {
  return textual(
    operand,
    (value) =>
      value
        .split(",")
        .map((each) => each.trim())
        .filter(Boolean),
    (values) => values.join(","),
  );
}

/** Names and values: a table, and `NAME=VALUE` more than once. Those of flags are laid over those of the file. */
export const pairs: Kind<Readonly<Record<string, string>>> = {
  operand: "NAME=VALUE",
  fromText(value) {
    const [, name, rest] = /^([^=]+)=(.*)$/s.exec(value) ?? [];
    if (name === undefined || rest === undefined) {
      throw new WrongValueError(`invalid value ${shown(value)}, want NAME=VALUE`);
    }
    return { [name]: rest };
  },
  fromToml(value) {
    if (!isTable(value) || !Object.values(value).every((each) => typeof each === "string")) {
      throw wrongValue(value, "a table of texts");
    }
    return { ...value } as Readonly<Record<string, string>>;
  },
  toToml: (value) => ({ ...value }),
  append: (earlier, later) => ({ ...earlier, ...later }),
  overlay: (weaker, stronger) => ({ ...weaker, ...stronger }),
  unusedKeys: () => [],
};
