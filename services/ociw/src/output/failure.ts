import { stripVTControlCharacters } from "node:util";

/** Longest message that is shown, in characters. */
const maxMessageChars = 2000;

/** A failure in one line for a person: what others have put into it cannot steer the terminal or break the line. */
export function failureLine(program: string, error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return `${program}: ${oneLine(message).slice(0, maxMessageChars)}\n`;
}

/** `text` without line breaks, control characters and terminal sequences. */
export function oneLine(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/\s+/g, " ")
    .replace(/\p{Cc}/gu, "\ufffd")
    .trim();
}
