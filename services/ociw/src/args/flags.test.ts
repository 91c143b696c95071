import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { commandIndex, type FlagSpecs, parseFlags } from "./flags.ts";
import { UsageError } from "./usage-error.ts";

const specs = {
  env: { value: "NAME=VALUE", short: "e", multiple: true, help: "" },
  output: { value: "DIR", short: "o", help: "" },
  mode: { value: "MODE", choices: ["a", "b"], help: "" },
  quick: { short: "q", help: "" },
} as const satisfies FlagSpecs;

test("flags are taken before and after words, what follows -- is left alone", () => {
  const args = ["-e", "A=1", "word", "--env=B=-2", "-qo", "dir", "--mode", "b", "--", "--env", "x", "--"];
  assert.deepEqual(parseFlags(args, specs), {
    flags: { env: ["A=1", "B=-2"], quick: [""], output: ["dir"], mode: ["b"] },
    words: ["word"],
    rest: ["--env", "x", "--"],
  });
});

test("words after -- that are none are told from no --", () => {
  assert.deepEqual(parseFlags(["--"], specs).rest, []);
  assert.equal(parseFlags([], specs).rest, undefined);
});

describe("parseFlags refuses", () => {
  const cases: [args: string[], text: RegExp][] = [
    [["--outptu", "x"], /unknown flag --outptu, did you mean --output\?/],
    [["--out", "x"], /unknown flag --out, did you mean --output\?/],
    [["--zzzzzzzz"], /unknown flag --zzzzzzzz$/],
    [["-x"], /unknown flag -x/],
    [["--toString"], /unknown flag --toString/],
    [["--output"], /--output without a value: want --output DIR/],
    [["--output", "--quick"], /want --output=--quick if that is the value/],
    [["--output", "a", "-o", "b"], /--output twice/],
    [["--mode", "c"], /--mode "c": want one of a, b/],
    [["--quick=1"], /give --quick a value/],
  ];
  for (const [args, text] of cases) {
    test(args.join(" "), () => {
      assert.throws(
        () => parseFlags(args, specs),
        (error) => error instanceof UsageError && text.test(error.message),
      );
    });
  }
});

test("whatever is typed is understood or refused as usage", () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom("--", "-", "-e", "--env", "--env=", "-qe", "--quick", "a"),
  );
  fc.assert(
    fc.property(fc.array(word), (args) => {
      try {
        parseFlags(args, specs);
      } catch (error) {
        assert(error instanceof UsageError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

describe("commandIndex passes over flags and their values", () => {
  const cases: [args: string[], want: number][] = [
    [["run", "x"], 0],
    [["--output", "d", "run"], 2],
    [["--output=d", "-q", "run", "x"], 2],
    [["--quick"], 1],
    [["--", "run"], 2],
    [[], 0],
  ];
  for (const [args, want] of cases) {
    test(args.join(" ") || "nothing", () => {
      assert.equal(commandIndex(args, specs), want);
    });
  }
});
