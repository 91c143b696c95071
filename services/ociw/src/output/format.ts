import type { FlagSpec } from "../args/flags.ts";

/** The flag of commands that list something. */
export const formatFlag = {
  value: "FORMAT",
  choices: ["table", "json"],
  help: "table, or json for programs (default table)",
} as const satisfies FlagSpec;

/** `value` as one JSON document for another program. */
export function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
