import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { compileRegexp, RegexpError } from "./regexp.ts";

describe("compileRegexp", () => {
  // What Go's regexp.MatchString answers.
  const cases: readonly (readonly [pattern: string, finds: readonly string[], misses: readonly string[]])[] =
    [
      ["", ["", "x"], []],
      ["b", ["abc", "b"], ["", "ac"]],
      ["^b", ["bc"], ["ab", "a\nb"]],
      ["b$", ["ab"], ["ba", "b\n"]],
      ["(?m)^b$", ["a\nb\nc", "b"], ["ab"]],
      ["a.c", ["abc", "aéc", "a😀c"], ["a\nc", "ac"]],
      ["(?s)a.c", ["a\nc"], ["ac"]],
      ["^ab*c$", ["ac", "abbc"], ["abb"]],
      ["^ab+?c$", ["abc", "abbc"], ["ac"]],
      ["^ab?c$", ["ac", "abc"], ["abbc"]],
      ["^a{2}$", ["aa"], ["a", "aaa"]],
      ["^a{2,}$", ["aa", "aaaa"], ["a"]],
      ["^a{1,3}$", ["a", "aaa"], ["", "aaaa"]],
      ["^a{,2}$", ["a{,2}"], ["aa"]],
      ["^a{0}$", [""], ["a"]],
      ["^(ab|cd)+$", ["abcd"], ["abc"]],
      ["^(?:a|b|)c$", ["ac", "bc", "c"], ["dc"]],
      ["^(?P<first>a)(?<second>b)$", ["ab"], ["ba"]],
      ["(?i)straße", ["STRAßE", "Straße"], ["strasse"]],
      ["a(?i)b", ["aB", "ab"], ["Ab"]],
      ["^(?i:a)b$", ["Ab"], ["AB"]],
      ["(?i)^[^a]$", ["b"], ["a", "A"]],
      ["(?i-s:A).", ["ab"], ["a\n"]],
      ["^[a-c-]+$", ["a-b"], ["d"]],
      ["^[]a]+$", ["]a"], ["b"]],
      ["^[^]a]+$", ["b"], ["]"]],
      ["^[\\d\\-.]+$", ["1-2.3"], ["a"]],
      ["^[[:alpha:][:^ascii:]]+$", ["aé"], ["1"]],
      ["^[\\x41-\\x{43}\\n]+$", ["AB\nC"], ["D"]],
      ["^\\pL\\p{Lu}\\p{Greek}\\P{Latin}$", ["aBγ1"], ["abγ1", "aBga"]],
      ["^\\p{^Greek}$", ["a"], ["γ"]],
      ["^\\Qa.b*\\E+$", ["a.b*", "a.b**"], ["axb"]],
      ["^\\Q\\$", ["\\$"], ["\\"]],
      ["\\bword\\b", ["a word.", "word"], ["sword", "word_"]],
      ["\\Boo\\B", ["foot"], ["oo", "foo"]],
      ["\\Aa\\z", ["a"], ["a\n"]],
      ["^\\a\\f\\n\\r\\t\\v$", ["\x07\f\n\r\t\v"], []],
      ["^\\101\\x41\\0$", ["AA\0"], []],
      ["^\\.\\/\\_\\-$", ["./_-"], []],
      ["^(a*)*$", ["", "aaa"], ["b"]],
      ["^(a|a)*$", ["aaa"], ["b"]],
      ["^((a{0,3}){0,3}){0,3}$", ["a".repeat(27)], ["a".repeat(28)]],
      ["x*", [""], []],
      ["^*a", ["a"], ["b"]],
    ];
  for (const [pattern, finds, misses] of cases) {
    test(`/${pattern}/ finds what Go's finds`, () => {
      const regexp = compileRegexp(pattern);
      for (const text of finds) {
        assert(regexp.test(text), `want ${JSON.stringify(text)} found`);
      }
      for (const text of misses) {
        assert(!regexp.test(text), `want ${JSON.stringify(text)} not found`);
      }
    });
  }

  const refused = [
    "(",
    ")",
    "a)b",
    "[a",
    "[z-a]",
    "[[:nosuch:]]",
    "*",
    "a|*",
    "a**",
    "a+*",
    "a{1001}",
    "a{2,1}",
    "a{1}{2}",
    "\\",
    "\\8",
    "\\1",
    "\\q",
    "\\Z",
    "\\x{110000}",
    "\\p{NoSuch}",
    "(?=a)",
    "(?!a)",
    "(?<!a)b",
    "(?z)",
    "(?i",
    "(?P<>a)",
  ];
  for (const pattern of refused) {
    test(`/${pattern}/ is refused`, () => {
      assert.throws(() => compileRegexp(pattern), RegexpError);
    });
  }

  test("agrees with JavaScript where the two languages are the same", () => {
    const atom = fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "(?:a|b)", "(?:ab)", "^", "$", "\\b", "\\w");
    const quantifier = fc.constantFrom("", "", "*", "+", "?", "{2}", "{0,2}", "*?");
    const part = fc
      .tuple(atom, quantifier)
      .map(([left, right]) => (/^[\^$]|\\b/.test(left) ? left : left + right));
    const sequence = fc.array(part, { maxLength: 6 }).map((parts) => parts.join(""));
    const pattern = fc.array(sequence, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("|"));
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c", " "), maxLength: 12 });
    fc.assert(
      fc.property(pattern, text, (source, subject) => {
        assert.equal(compileRegexp(source).test(subject), new RegExp(source, "u").test(subject));
      }),
      { numRuns: 5000 },
    );
  });

  test("any text is either an expression or refused", () => {
    const unit = fc.constantFrom(..."a(|)[]{}*+?^$.\\-,:01pPQEx<>is");
    fc.assert(
      fc.property(fc.string({ unit }), fc.string({ unit, maxLength: 20 }), (source, subject) => {
        try {
          compileRegexp(source).test(subject);
        } catch (error) {
          assert(error instanceof RegexpError, String(error));
        }
      }),
      { numRuns: 5000 },
    );
  });

  test("one on which backtracking takes for ever is answered in linear steps", () => {
    const text = `${"a".repeat(20_000)}b`;
    assert.equal(compileRegexp("^(a+)+$").test(text), false);
    assert.equal(compileRegexp("^(a|a|a)*$").test(text), false);
    assert.equal(compileRegexp("(x+x+)+y").test("x".repeat(20_000)), false);
  });

  test("one whose repetitions multiply is too large", () => {
    assert.throws(() => compileRegexp("((a{1000}){1000}){1000}"), RegexpError);
    assert.throws(() => compileRegexp("(((a?){100}){100}){100}"), RegexpError);
    assert.throws(() => compileRegexp("a".repeat(5000)), RegexpError);
    assert.throws(() => compileRegexp("(".repeat(1000) + ")".repeat(1000)), RegexpError);
  });

  test("nothing, a thousand times a thousand times, is still nothing", () => {
    assert(compileRegexp("(((){1000}){1000}){1000}").test(""));
  });

  test("one that takes too many steps on a text is an error, not a wait", () => {
    const regexp = compileRegexp("(?:a?){1000}b");
    assert.throws(() => regexp.test("a".repeat(60_000)), ResourceExhaustedError);
  });
});
