import { parseArgs } from "node:util";
import { nearest } from "@oci-worker/nearest";
import { UsageError } from "./usage-error.ts";

/** One flag of a command. */
export interface FlagSpec {
  /** What the value is called in the help; without one the flag takes no value. */
  readonly value?: string;
  /** The only values that are allowed. */
  readonly choices?: readonly string[];
  /** It may come more than once. */
  readonly multiple?: boolean;
  /** A single letter that means the same. */
  readonly short?: string;
  readonly help: string;
}

export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

/** What a command line says, flag by flag, and the words that are no flags. */
export interface ParsedArgs {
  /** Values of each flag in their order; a flag without value that was given has one empty one. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Words before `--`. */
  readonly words: readonly string[];
  /** Words after `--`, or undefined if there was none. */
  readonly rest: readonly string[] | undefined;
}

/**
 * Reads `args` by `specs`.
 *
 * @throws {UsageError} naming what is wrong and what was probably meant.
 */
export function parseFlags(args: readonly string[], specs: FlagSpecs): ParsedArgs {
  const { tokens } = parseArgs({
    args: [...args],
    options: optionsOf(specs),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const flags: Record<string, string[]> = {};
  const words: string[] = [];
  let rest: string[] | undefined;
  for (const token of tokens) {
    switch (token.kind) {
      case "option-terminator":
        rest = [];
        break;
      case "positional":
        (rest ?? words).push(token.value);
        break;
      case "option": {
        const value = flagValue(token, specs);
        flags[token.name] = [...(flags[token.name] ?? []), value];
        break;
      }
    }
  }
  for (const [name, values] of Object.entries(flags)) {
    if (values.length > 1 && specs[name]?.multiple !== true && specs[name]?.value !== undefined) {
      throw new UsageError(`Cannot use --${name} twice: want one value`);
    }
  }
  return { flags, words, rest };
}

/** Where the name of the command is in `args`: its first word, flags of `specs` and their values passed over. */
export function commandIndex(args: readonly string[], specs: FlagSpecs): number {
  const options = optionsOf(specs);
  const { tokens } = parseArgs({
    args: [...args],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const first = tokens.find(({ kind }) => kind === "positional" || kind === "option-terminator");
  return first?.kind === "positional" ? first.index : args.length;
}

function optionsOf(specs: FlagSpecs): NonNullable<Parameters<typeof parseArgs>[0]>["options"] & object {
  return Object.fromEntries(
    Object.entries(specs).map(([name, { value, short }]) => [
      name,
      {
        type: value === undefined ? ("boolean" as const) : ("string" as const),
        multiple: true,
        ...(short !== undefined && { short }),
      },
    ]),
  );
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function flagValue({ name, rawName, value, inlineValue }: OptionToken, specs: FlagSpecs): string {
  const spec = Object.hasOwn(specs, name) ? specs[name] : undefined;
  if (spec === undefined) {
    const meant = nearest(name, Object.keys(specs));
    throw new UsageError(
      `Cannot use unknown flag ${rawName}${meant === undefined ? "" : `, did you mean --${meant}?`}`,
    );
  }
  if (spec.value === undefined) {
    if (value !== undefined) {
      throw new UsageError(`Cannot give ${rawName} a value: it takes none`);
    }
    return "";
  }
  if (value === undefined) {
    throw new UsageError(`Cannot use ${rawName} without a value: want ${rawName} ${spec.value}`);
  }
  if (inlineValue !== true && value.startsWith("-") && value !== "-") {
    throw new UsageError(
      `Cannot use ${rawName} with ${value}: want ${rawName}=${value} if that is the value and no flag`,
    );
  }
  if (spec.choices !== undefined && !spec.choices.includes(value)) {
    throw new UsageError(
      `Cannot use ${rawName} ${JSON.stringify(value)}: want one of ${spec.choices.join(", ")}`,
    );
  }
  return value;
}
