import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { TomlValue } from "smol-toml";
import { type Kind, WrongValueError } from "./kind.ts";
import type { Setting } from "./setting.ts";
import type { Unsupported } from "./unsupported.ts";

/** What of a setting is needed to read it: where there is no fallback, an empty text means nothing. */
type Readable = Pick<Setting, "kind"> & Partial<Pick<Setting, "fallback">>;

/**
 * Reads what a flag or a variable says.
 *
 * @param origin which one, for errors.
 * @throws {InvalidArgumentError} naming it, its value and what is wanted.
 */
export function readText({ kind, fallback }: Readable, text: string, origin: string): unknown {
  return text === "" && fallback === undefined ? undefined : checked(origin, () => kind.fromText(text));
}

/** The same for a key of the file. @throws {InvalidArgumentError} naming it, its value and what is wanted. */
export function readToml({ kind, fallback }: Readable, value: TomlValue, origin: string): unknown {
  return value === "" && fallback === undefined ? undefined : checked(origin, () => kind.fromToml(value));
}

/**
 * What is to be said of a value, as read, of something that this worker cannot do; nothing if it asks for no more than is so.
 *
 * @param origin which variable or key has it.
 */
export function warningsOf({ isMet, why }: Unsupported, value: unknown, origin: string): string[] {
  return value === undefined || isMet(value) ? [] : [`${origin} has no effect: ${why}`];
}

/** The setting as it is said under a former name. */
export function underFormerName(setting: Setting, kind: Kind<unknown> | undefined): Setting {
  return kind === undefined ? setting : { ...setting, kind };
}

function checked<T>(origin: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof WrongValueError) {
      throw new InvalidArgumentError(`Cannot use ${origin}: ${cause.message}`, { cause });
    }
    throw cause;
  }
}
