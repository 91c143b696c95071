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

/** The help of the program. */
export function programHelp(
  program: string,
  commands: Readonly<Record<string, Described>>,
  globals: FlagSpecs,
): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => line(name, summary));
  return paragraphs([
    `Usage: ${program} [--addr ADDRESS] COMMAND [flags]`,
    "Runs and inspects on a BuildKit daemon, oci-worker or buildkitd.",
    section("Commands", lines),
    section("Flags", flagLines(globals)),
    `"${program} help COMMAND" tells more about a command.`,
  ]);
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
