import type { CharSet } from "./char-set.ts";
import { RegexpError } from "./pattern-reader.ts";
import type { Assertion, Node } from "./syntax.ts";

/** A step of a matcher; numbers are indices of the steps that follow. */
export type Instruction =
  | { readonly op: "char"; readonly set: CharSet; readonly next: number }
  | { readonly op: "assert"; readonly assertion: Assertion; readonly next: number }
  | { readonly op: "split"; first: number; readonly second: number }
  | { readonly op: "match" };

export interface Program {
  readonly instructions: readonly Instruction[];
  readonly start: number;
}

/** A thousand repetitions of a thousand repetitions would be a million instructions, each tried on each character. */
const maxInstructions = 5000;

/**
 * Compiles a syntax tree into a machine that is in several states at once (Thompson's construction), so that its
 * time grows with the text and not, as with backtracking, with the ways of reading it.
 *
 * @throws {RegexpError} if it becomes too large.
 */
export function compileProgram(node: Node): Program {
  const instructions: Instruction[] = [{ op: "match" }];

  const emit = (instruction: Instruction): number => {
    if (instructions.length === maxInstructions) {
      throw new RegexpError(
        `Cannot use regular expression: it is too large, want at most ${maxInstructions} characters and repetitions`,
      );
    }
    return instructions.push(instruction) - 1;
  };

  /** Emits what matches `each` and then goes on at `next`: the last part comes first. */
  const compile = (each: Node, next: number): number => {
    switch (each.type) {
      case "char":
        return emit({ op: "char", set: each.set, next });
      case "assert":
        return emit({ op: "assert", assertion: each.assertion, next });
      case "sequence":
        return each.nodes.reduceRight((rest, part) => compile(part, rest), next);
      case "either":
        return each.nodes
          .map((part) => compile(part, next))
          .reduceRight((second, first) => emit({ op: "split", first, second }));
      case "repeat":
        return compileRepeat(each, next);
    }
  };

  const compileRepeat = ({ node: each, min, max }: Node & { type: "repeat" }, next: number): number => {
    let start = next;
    if (max === Number.POSITIVE_INFINITY) {
      const loop = { op: "split" as const, first: next, second: next };
      start = emit(loop);
      loop.first = compile(each, start);
    } else {
      for (let optional = min; optional < max; optional += 1) {
        start = emit({ op: "split", first: compile(each, start), second: next });
      }
    }
    for (let required = 0; required < min; required += 1) {
      const before = compile(each, start);
      if (before === start) {
        // It matches nothing, so a thousand of it, in a thousand of that, would only take for ever.
        break;
      }
      start = before;
    }
    return start;
  };

  return { start: compile(node, 0), instructions };
}
