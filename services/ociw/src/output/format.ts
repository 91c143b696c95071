import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";

/** The flags of commands that tell something. */
export const formatFlags = {
  format: {
    value: "FORMAT",
    choices: ["table", "json"],
    help: "table, or json for programs (default table)",
  },
  json: { help: "the same as --format json" },
} as const satisfies FlagSpecs;

/** Whether a command that has {@link formatFlags} is to write JSON. */
export function wantsJSON(flags: ParsedArgs["flags"]): boolean {
  return flags["json"] !== undefined || flags["format"]?.[0] === "json";
}

/** `value` as one JSON document for another program. */
export function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
