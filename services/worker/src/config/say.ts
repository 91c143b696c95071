import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { TomlValue } from "smol-toml";
import { type Kind, WrongValueError } from "./kind.ts";
import type { Setting } from "./setting.ts";

/**
 * Reads what a flag or a variable says.
 *
 * @param origin which one, for errors.
 * @throws {InvalidArgumentError} naming it, its value and what is wanted.
 */
export function readText(
  { kind, fallback }: Pick<Setting, "kind" | "fallback">,
  text: string,
  origin: string,
): unknown {
  return text === "" && fallback === undefined ? undefined : checked(origin, () => kind.fromText(text));
}

/** The same for a key of the file. @throws {InvalidArgumentError} naming it, its value and what is wanted. */
export function readToml(
  { kind, fallback }: Pick<Setting, "kind" | "fallback">,
  value: TomlValue,
  origin: string,
): unknown {
  return value === "" && fallback === undefined ? undefined : checked(origin, () => kind.fromToml(value));
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
