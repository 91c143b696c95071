import { UsageError } from "./usage-error.ts";

/** What `parse` makes of `text`. What a parser of the domain refuses on a command line is wrong usage. */
export function parsed<T>(parse: (text: string) => T, text: string): T {
  try {
    return parse(text);
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
