import {
  anyOf,
  asciiClasses,
  between,
  type CharSet,
  foldCase,
  not,
  perlClasses,
  remembered,
} from "./char-set.ts";
import { readEscapedChar, readUnicodeClass } from "./escape.ts";
import type { PatternReader } from "./pattern-reader.ts";

/**
 * Reads a bracketed class such as `[^a-z[:digit:]\s]`, its bracket coming next.
 *
 * @param foldsCase whether upper and lower case are the same; a negated class has to know before it is negated.
 * @throws {RegexpError} if it is not closed or a range in it runs backwards.
 */
export function readClass(reader: PatternReader, foldsCase: boolean): CharSet {
  reader.take("[");
  const negated = reader.take("^");
  const sets: CharSet[] = [];
  // A closing bracket in the first place stands for itself.
  while (sets.length === 0 || !reader.sees("]")) {
    if (reader.atEnd) {
      throw reader.error("a class is not closed");
    }
    sets.push(readNamed(reader) ?? readRange(reader));
  }
  reader.take("]");
  const set = foldsCase ? foldCase(anyOf(sets)) : remembered(anyOf(sets));
  return negated ? not(set) : set;
}

function readNamed(reader: PatternReader): CharSet | undefined {
  const text = reader.takeMatch(/\[:\^?[a-z]+:\]/y);
  if (text === undefined) {
    return reader.takeOneOf(perlClasses) ?? readUnicodeClass(reader);
  }
  const name = text.replace(/[^a-z]/g, "");
  const set = Object.hasOwn(asciiClasses, name) ? asciiClasses[name] : undefined;
  if (set === undefined) {
    throw reader.error(`there is no class ${text}`);
  }
  return text.includes("^") ? not(set) : set;
}

function readRange(reader: PatternReader): CharSet {
  const first = readMember(reader);
  // A minus before the closing bracket stands for itself.
  if (!reader.sees("-") || reader.sees("-]")) {
    return between(first, first);
  }
  reader.take("-");
  const last = readMember(reader);
  if (last < first) {
    throw reader.error("a range of a class runs backwards");
  }
  return between(first, last);
}

function readMember(reader: PatternReader): number {
  return reader.sees("\\") ? readEscapedChar(reader) : (reader.takeChar().codePointAt(0) ?? 0);
}
