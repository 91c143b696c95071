import { anyChar, type CharSet, not, only, perlClasses, remembered } from "./char-set.ts";
import type { PatternReader } from "./pattern-reader.ts";

const controls: Readonly<Record<string, number>> = {
  "\\a": 0x07,
  "\\f": 0x0c,
  "\\n": 0x0a,
  "\\r": 0x0d,
  "\\t": 0x09,
  "\\v": 0x0b,
};

const maxCodePoint = 0x10ffff;

/**
 * Reads an escape sequence that stands for characters, its backslash coming next.
 *
 * @throws {RegexpError} if there is no such sequence.
 */
export function readEscape(reader: PatternReader): CharSet {
  return reader.takeOneOf(perlClasses) ?? readUnicodeClass(reader) ?? only(readEscapedChar(reader));
}

/** Reads an escape sequence that stands for one character, such as a class may have at either end of a range. */
export function readEscapedChar(reader: PatternReader): number {
  const control = reader.takeOneOf(controls);
  if (control !== undefined) {
    return control;
  }
  // A single digit other than 0 would be a back reference, which RE2 does not have.
  const octal = reader.takeMatch(/\\(?:0[0-7]{0,2}|[1-7][0-7]{1,2})/y);
  if (octal !== undefined) {
    return Number.parseInt(octal.slice(1), 8);
  }
  const hex = reader.takeMatch(/\\x(?:[0-9a-fA-F]{2}|\{[0-9a-fA-F]{1,8}\})/y);
  if (hex !== undefined) {
    const value = Number.parseInt(hex.replace(/[^0-9a-fA-F]/g, ""), 16);
    if (value > maxCodePoint) {
      throw reader.error(`there is no character ${hex}`);
    }
    return value;
  }
  const punctuation = reader.takeMatch(/\\[!-/:-@[-`{-~]/y);
  if (punctuation === undefined) {
    throw reader.error("there is no such escape sequence");
  }
  return punctuation.charCodeAt(1);
}

/** Reads `\pL`, `\p{Greek}`, `\P{^Lu}`; undefined if something else comes next. */
export function readUnicodeClass(reader: PatternReader): CharSet | undefined {
  const text = reader.takeMatch(/\\[pP](?:[A-Z]|\{\^?[A-Za-z_]+\})/y);
  if (text === undefined) {
    return undefined;
  }
  const name = text.replace(/^\\[pP]\{?\^?|\}$/g, "");
  const set = unicodeClass(name);
  if (set === undefined) {
    throw reader.error(`there is no Unicode class ${name}`);
  }
  return text.startsWith("\\P") === text.includes("^") ? set : not(set);
}

function unicodeClass(name: string): CharSet | undefined {
  if (name === "Any") {
    return anyChar;
  }
  // Categories have names of one or two letters, scripts longer ones.
  const property = name.length <= 2 ? `General_Category=${name}` : `Script=${name}`;
  try {
    const pattern = new RegExp(`^\\p{${property}}$`, "u");
    return remembered((char) => pattern.test(String.fromCodePoint(char)));
  } catch {
    // The engine has no list of names to ask; a name that it does not know is a syntax error to it.
    return undefined;
  }
}
