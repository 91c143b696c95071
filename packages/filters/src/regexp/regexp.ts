import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { wordChar } from "./char-set.ts";
import { RegexpError } from "./pattern-reader.ts";
import { compileProgram, type Program } from "./program.ts";
import { type Assertion, parseRegexp } from "./syntax.ts";

export { RegexpError };

/** Longer ones are no filters; the limit of the program catches what is short and grows. */
const maxSourceChars = 4096;

/** A few milliseconds. A sane expression on the longest key that we store takes less than a tenth of it. */
const maxSteps = 2_000_000;

const newline = 0x0a;

/**
 * Compiles a regular expression of Go's regexp package, for text that strangers give on both sides.
 *
 * JavaScript's own would hang the process on one such as `(a+)+$`, and differs in syntax.
 *
 * @throws {RegexpError} if it is not well formed or too large.
 */
export function compileRegexp(source: string): Regexp {
  if (source.length > maxSourceChars) {
    throw new RegexpError(
      `Cannot use regular expression: it has ${source.length} characters, want at most ${maxSourceChars}`,
    );
  }
  return new Regexp(source, compileProgram(parseRegexp(source)));
}

export class Regexp {
  readonly #source: string;
  readonly #program: Program;

  constructor(source: string, program: Program) {
    this.#source = source;
    this.#program = program;
  }

  /**
   * Whether the expression is found anywhere in `text`.
   *
   * @throws {ResourceExhaustedError} if that takes too long to find out.
   */
  test(text: string): boolean {
    const threads = new Threads(this.#program);
    let before: number | undefined;
    for (let index = 0; ; ) {
      const after = text.codePointAt(index);
      // A match may begin at every character.
      threads.enter(this.#program.start, before, after);
      if (threads.matched) {
        return true;
      }
      if (after === undefined) {
        return false;
      }
      const following = index + (after > 0xffff ? 2 : 1);
      threads.step(after, text.codePointAt(following));
      if (threads.matched) {
        return true;
      }
      if (threads.steps > maxSteps) {
        throw new ResourceExhaustedError(
          `Cannot apply regular expression ${JSON.stringify(this.#source.slice(0, 100))}: it takes more than ${maxSteps} steps on a text of ${text.length} characters`,
        );
      }
      before = after;
      index = following;
    }
  }
}

/** The instructions that the machine is at, all at once; each at most once, whichever way led there. */
class Threads {
  matched = false;
  /** How much work has been done. */
  steps = 0;
  readonly #program: Program;
  /** For each instruction, the round in which it was entered last. */
  readonly #enteredIn: Uint32Array;
  #round = 1;
  /** Instructions that wait for a character. */
  #waiting: number[] = [];
  readonly #pending: number[] = [];

  constructor(program: Program) {
    this.#program = program;
    this.#enteredIn = new Uint32Array(program.instructions.length);
  }

  /** Follows everything that can be reached from `start` without a character. */
  enter(start: number, before: number | undefined, after: number | undefined): void {
    this.#pending.push(start);
    for (let index = this.#pending.pop(); index !== undefined; index = this.#pending.pop()) {
      this.steps += 1;
      if (this.#enteredIn[index] === this.#round) {
        continue;
      }
      this.#enteredIn[index] = this.#round;
      const instruction = this.#program.instructions[index];
      switch (instruction?.op) {
        case "match":
          this.matched = true;
          break;
        case "split":
          this.#pending.push(instruction.second, instruction.first);
          break;
        case "assert":
          if (holds(instruction.assertion, before, after)) {
            this.#pending.push(instruction.next);
          }
          break;
        case "char":
          this.#waiting.push(index);
          break;
      }
    }
  }

  /** Takes the character `char`; `next` is the one after it. */
  step(char: number, next: number | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#round += 1;
    for (const index of waiting) {
      const instruction = this.#program.instructions[index];
      if (instruction?.op === "char" && instruction.set(char)) {
        this.enter(instruction.next, char, next);
      }
    }
    this.steps += waiting.length;
  }
}

function holds(assertion: Assertion, before: number | undefined, after: number | undefined): boolean {
  switch (assertion) {
    case "text start":
      return before === undefined;
    case "text end":
      return after === undefined;
    case "line start":
      return before === undefined || before === newline;
    case "line end":
      return after === undefined || after === newline;
    case "word boundary":
      return isWord(before) !== isWord(after);
    case "no word boundary":
      return isWord(before) === isWord(after);
  }
}

function isWord(char: number | undefined): boolean {
  return char !== undefined && wordChar(char);
}
