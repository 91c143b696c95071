import type { CharSet } from "./char-set.ts";
import { anyChar, anyCharButNewline, foldCase, only } from "./char-set.ts";
import { readClass } from "./class.ts";
import { readEscape } from "./escape.ts";
import { PatternReader, RegexpError } from "./pattern-reader.ts";

/** What must hold between two characters. */
export type Assertion =
  | "line end"
  | "line start"
  | "text end"
  | "text start"
  | "word boundary"
  | "no word boundary";

/** The syntax tree of a regular expression, of which we only ask whether it is found in a text. */
export type Node =
  | { readonly type: "char"; readonly set: CharSet }
  | { readonly type: "assert"; readonly assertion: Assertion }
  | { readonly type: "sequence"; readonly nodes: readonly Node[] }
  | { readonly type: "either"; readonly nodes: readonly Node[] }
  /** `max` may be Infinity. */
  | { readonly type: "repeat"; readonly node: Node; readonly min: number; readonly max: number };

interface Flags {
  /** i: upper and lower case are the same. */
  readonly foldsCase: boolean;
  /** m: `^` and `$` are those of each line. */
  readonly hasLines: boolean;
  /** s: a dot is also a newline. */
  readonly dotIsAny: boolean;
}

/** Go's limit for the numbers in braces (regexp/syntax, "Repetitions"). */
const maxRepeats = 1000;

/** Groups in groups; deeper ones only come from somebody who wants to exhaust the stack. */
const maxDepth = 200;

const nothing: Node = { type: "sequence", nodes: [] };

/**
 * Reads the syntax of Go's regexp package (RE2): no back references, no look-around.
 *
 * Whether a repetition is greedy and what a group is called does not matter to whether there is a match, so both are
 * read and forgotten.
 *
 * @throws {RegexpError} if it is not well formed.
 */
export function parseRegexp(source: string): Node {
  const parser = new RegexpParser(source);
  return parser.whole();
}

class RegexpParser {
  readonly #reader: PatternReader;
  #flags: Flags = { foldsCase: false, hasLines: false, dotIsAny: false };
  #depth = 0;

  constructor(source: string) {
    this.#reader = new PatternReader(source);
  }

  whole(): Node {
    const node = this.#either();
    if (!this.#reader.atEnd) {
      throw this.#reader.error("a parenthesis is closed that was not opened");
    }
    return node;
  }

  #either(): Node {
    const nodes = [this.#sequence()];
    while (this.#reader.take("|")) {
      nodes.push(this.#sequence());
    }
    const [first = nothing] = nodes;
    return nodes.length === 1 ? first : { type: "either", nodes };
  }

  #sequence(): Node {
    const nodes: Node[] = [];
    while (!this.#reader.atEnd && !this.#reader.sees("|") && !this.#reader.sees(")")) {
      if (this.#reader.take("\\Q")) {
        nodes.push(...this.#quoted());
      } else {
        const atom = this.#atom();
        nodes.push(atom === undefined ? nothing : this.#repeated(atom));
      }
    }
    return { type: "sequence", nodes };
  }

  /** Characters that all stand for themselves. A repetition after them is that of the last one. */
  #quoted(): Node[] {
    const chars = [...this.#reader.takeUntil("\\E")];
    const nodes = chars.map((char) => this.#char(only(char.codePointAt(0) ?? 0)));
    const last = nodes.pop();
    return last === undefined ? [] : [...nodes, this.#repeated(last)];
  }

  /** One thing that can be repeated, or undefined for flags that hold from here on. */
  #atom(): Node | undefined {
    const reader = this.#reader;
    switch (reader.next) {
      case "(":
        return this.#group();
      case "[":
        return this.#char(readClass(reader, this.#flags.foldsCase));
      case "\\":
        return this.#escaped();
      case "*":
      case "+":
      case "?":
        throw reader.error("there is nothing to repeat");
    }
    const char = reader.takeChar();
    switch (char) {
      case ".":
        return { type: "char", set: this.#flags.dotIsAny ? anyChar : anyCharButNewline };
      case "^":
        return { type: "assert", assertion: this.#flags.hasLines ? "line start" : "text start" };
      case "$":
        return { type: "assert", assertion: this.#flags.hasLines ? "line end" : "text end" };
      default:
        return this.#char(only(char.codePointAt(0) ?? 0));
    }
  }

  #escaped(): Node {
    const assertion = this.#reader.takeOneOf<Assertion>({
      "\\A": "text start",
      "\\z": "text end",
      "\\b": "word boundary",
      "\\B": "no word boundary",
    });
    return assertion === undefined ? this.#char(readEscape(this.#reader)) : { type: "assert", assertion };
  }

  #char(set: CharSet): Node {
    return { type: "char", set: this.#flags.foldsCase ? foldCase(set) : set };
  }

  #group(): Node | undefined {
    const reader = this.#reader;
    const outer = this.#flags;
    reader.take("(");
    if (reader.take("?")) {
      if (reader.takeMatch(/P?<[A-Za-z0-9_]+>/y) === undefined) {
        this.#flags = this.#readFlags();
        if (reader.take(")")) {
          return undefined;
        }
        if (!reader.take(":")) {
          throw reader.error("the flags of a group end in : or )");
        }
      }
    }
    this.#depth += 1;
    if (this.#depth > maxDepth) {
      throw reader.error(`groups nest deeper than ${maxDepth}`);
    }
    const node = this.#either();
    this.#depth -= 1;
    if (!reader.take(")")) {
      throw reader.error("a parenthesis is not closed");
    }
    this.#flags = outer;
    return node;
  }

  #readFlags(): Flags {
    const text = this.#reader.takeMatch(/[imsU]*(?:-[imsU]+)?/y) ?? "";
    const [on = "", off = ""] = text.split("-");
    const value = (letter: string, before: boolean) =>
      (before || on.includes(letter)) && !off.includes(letter);
    return {
      foldsCase: value("i", this.#flags.foldsCase),
      hasLines: value("m", this.#flags.hasLines),
      dotIsAny: value("s", this.#flags.dotIsAny),
    };
  }

  #repeated(node: Node): Node {
    const range = this.#range();
    if (range === undefined) {
      return node;
    }
    this.#reader.take("?");
    if (this.#range() !== undefined) {
      throw this.#reader.error("a repetition is repeated");
    }
    return { type: "repeat", node, ...range };
  }

  #range(): { min: number; max: number } | undefined {
    const simple = this.#reader.takeOneOf({
      "*": { min: 0, max: Number.POSITIVE_INFINITY },
      "+": { min: 1, max: Number.POSITIVE_INFINITY },
      "?": { min: 0, max: 1 },
    });
    if (simple !== undefined) {
      return simple;
    }
    // Braces that hold anything else stand for themselves.
    const braces = this.#reader.takeMatch(/\{\d{1,9}(?:,\d{0,9})?\}/y);
    if (braces === undefined) {
      return undefined;
    }
    const [low = "", high] = braces.slice(1, -1).split(",");
    const min = Number(low);
    const max = high === undefined ? min : high === "" ? Number.POSITIVE_INFINITY : Number(high);
    if (min > maxRepeats || min > max || (max > maxRepeats && max !== Number.POSITIVE_INFINITY)) {
      throw new RegexpError(
        `Cannot use regular expression: ${braces} is no range, want at most ${maxRepeats} repetitions`,
      );
    }
    return { min, max };
  }
}
