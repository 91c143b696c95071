import type { FlagSpecs } from "./flags.ts";

/** Column at which descriptions begin. */
const descriptionColumn = 28;

/** A command, as its help shows it. */
export interface Described {
  /** After the name of the program, such as `run [flags] IMAGE`. */
  readonly synopsis: string;
  readonly summary: string;
  /** Paragraphs after the flags. */
  readonly details: readonly string[];
  readonly flags: FlagSpecs;
}

/** The help of one command. */
export function commandHelp(program: string, command: Described, globals: FlagSpecs): string {
  return paragraphs([
    `Usage: ${program} ${command.synopsis}`,
    command.summary,
    section("Flags", flagLines(command.flags)),
    section("Flags of every command", flagLines(globals)),
    ...command.details,
  ]);
}

/** The help of a group of commands. */
export function groupHelp(
  program: string,
  group: Described & { readonly commands: Readonly<Record<string, Described>> },
  globals: FlagSpecs,
): string {
  return paragraphs([
    `Usage: ${program} ${group.synopsis}`,
    group.summary,
    section("Commands", commandLines(group.commands)),
    section("Flags of each of them", flagLines(group.flags)),
    section("Flags of every command", flagLines(globals)),
    ...group.details,
  ]);
}

/** The help of the program. */
export function programHelp(
  program: string,
  commands: Readonly<Record<string, Described>>,
  globals: FlagSpecs,
): string {
  return paragraphs([
    `Usage: ${program} [--addr ADDRESS] COMMAND [flags]`,
    "Runs and inspects on a BuildKit daemon, oci-worker or buildkitd, and on a snapshotter; converts images of registries.",
    section("Commands", commandLines(commands)),
    section("Flags", flagLines(globals)),
    `"${program} help COMMAND" tells more about a command.`,
  ]);
}

function commandLines(commands: Readonly<Record<string, Described>>): string[] {
  return Object.entries(commands).map(([name, { summary }]) => line(name, summary));
}

function flagLines(flags: FlagSpecs): string[] {
  return Object.entries(flags).map(([name, { short, value, help }]) => {
    const letter = short === undefined ? "    " : `-${short}, `;
    return line(`${letter}--${name}${value === undefined ? "" : ` ${value}`}`, help);
  });
}

function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : [`${title}:`, ...lines].join("\n");
}

function line(term: string, description: string): string {
  const start = `  ${term}`;
  return start.length < descriptionColumn
    ? `${start.padEnd(descriptionColumn)}${description}`
    : `${start}\n${" ".repeat(descriptionColumn)}${description}`;
}

function paragraphs(texts: readonly string[]): string {
  return `${texts.filter((text) => text !== "").join("\n\n")}\n`;
}
