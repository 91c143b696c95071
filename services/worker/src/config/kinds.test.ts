import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parse, type TomlValue } from "smol-toml";
import { type Kind, WrongValueError } from "./kind.ts";
import { listOf, oneOf, pairs, path, socket, text, truth, truthOrAuto, wholeNumber } from "./kinds.ts";
import { diskSpace, duration } from "./quantities.ts";
import { inlineToml } from "./show.ts";
import { tables } from "./tables.ts";

const rules = tables({
  keepDuration: { kind: duration, former: { keepFor: wholeNumber(0) } },
  filters: { kind: listOf(text) },
});

describe("a value of a flag", () => {
  const good: readonly (readonly [kind: Kind<unknown>, said: string, value: unknown])[] = [
    [path, "/a//b/../c/", "/a/c"],
    [path, "/", "/"],
    [socket, "unix:///s.sock", "/s.sock"],
    [truth, "T", true],
    [truth, "0", false],
    [truthOrAuto, "", "auto"],
    [truthOrAuto, "false", false],
    [wholeNumber(1), "12", 12],
    [oneOf(["a", "b"], { alias: { c: "b" } }), "c", "b"],
    [pairs, "a=b=c", { a: "b=c" }],
    [listOf(path), "/a", ["/a"]],
    [duration, "48h", 172_800_000],
    [duration, "1h30m", 5_400_000],
    [duration, "1.5s", 1500],
    [duration, "90", 90_000],
    [duration, "0", 0],
    [diskSpace, "1000", { bytes: 1000 }],
    [diskSpace, "512MB", { bytes: 512 * 2 ** 20 }],
    [diskSpace, "1.5 GiB", { bytes: 1.5 * 2 ** 30 }],
    [diskSpace, "2k", { bytes: 2048 }],
    [diskSpace, "10%", { percent: 10 }],
  ];
  for (const [kind, said, value] of good) {
    test(`${JSON.stringify(said)} is read`, () => {
      assert.deepEqual(kind.fromText(said), value);
    });
  }

  const wrong: readonly (readonly [kind: Kind<unknown>, said: string, message: RegExp])[] = [
    [path, "a", /it is "a", want an absolute path/],
    [path, "/a\0", /want an absolute path/],
    [socket, `/${"x".repeat(107)}`, /at most 107 bytes/],
    [socket, "tcp://1", /want an absolute path/],
    [truth, "yes", /it is "yes", want true or false/],
    [truthOrAuto, "yes", /want auto, true or false/],
    [wholeNumber(1), "0", /it is "0", want a whole number from 1 on/],
    [wholeNumber(0, 9), "10", /from 0 to 9/],
    [wholeNumber(0), "1.5", /want a whole number/],
    [wholeNumber(0), "", /want a whole number/],
    [oneOf(["native", "auto"]), "natve", /it is "natve", want native \(or another of native, auto\)/],
    [oneOf(["native", "auto"]), "", /want one of native, auto/],
    [oneOf(["a"], { unknown: (name) => `invalid ${name}` }), "b", /^invalid "b", want one of a$/],
    [pairs, "a", /invalid value "a", want NAME=VALUE/],
    [pairs, "=a", /want NAME=VALUE/],
    [duration, "1d", /invalid duration "1d", want/],
    [duration, "-1h", /invalid duration/],
    [duration, "", /invalid duration/],
    [diskSpace, "10 apples", /invalid disk space "10 apples", want/],
    [diskSpace, "101%", /invalid disk space/],
    [diskSpace, "", /invalid disk space/],
    [rules, "x", /only the file has/],
  ];
  for (const [kind, said, message] of wrong) {
    test(`${JSON.stringify(said.slice(0, 20))} is refused: ${message.source}`, () => {
      assert.throws(() => kind.fromText(said), { name: "Error", message });
      assert.throws(() => kind.fromText(said), WrongValueError);
    });
  }
});

describe("a value of the file", () => {
  const wrong: readonly (readonly [kind: Kind<unknown>, toml: string, message: RegExp])[] = [
    [text, "5", /it is 5, want a text/],
    [listOf(text), '"a"', /it is "a", want a list/],
    [listOf(text), "[1]", /it is 1, want a text/],
    [truth, '"true"', /want true or false/],
    [truthOrAuto, '"yes"', /want true or false/],
    [wholeNumber(0), "1.5", /want a whole number/],
    [wholeNumber(0), "-1", /want a whole number/],
    [wholeNumber(0), "true", /want a whole number/],
    [wholeNumber(0), '"1"', /want a whole number/],
    [pairs, "{ a = 1 }", /want a table of texts/],
    [duration, "true", /invalid duration true/],
    [duration, "-5", /invalid duration -5/],
    [diskSpace, "-5", /invalid disk space -5/],
    [diskSpace, "1.5", /invalid disk space 1.5/],
    [rules, "[1]", /want a list of tables/],
    [rules, "{ filters = [] }", /want a list of tables/],
    [rules, "[{}, { keepDuration = true }]", /keepDuration of table 2: invalid duration true/],
  ];
  for (const [kind, toml, message] of wrong) {
    test(`${toml} is refused: ${message.source}`, () => {
      assert.throws(() => kind.fromToml(tomlValue(toml)), { message });
    });
  }

  test("that is a list of tables has rows, former names with what they meant then, and keys that are not read", () => {
    const value = tomlValue(
      '[{ keepFor = 5, filters = ["a"] }, { keepDuration = "1h", keepFor = 1, keepFro = 2 }]',
    );
    assert.deepEqual(rules.fromToml(value), [
      { keepDuration: 5, filters: ["a"] },
      { keepDuration: 3_600_000 },
    ]);
    assert.deepEqual(rules.unusedKeys?.(value), ["keepFro"]);
    assert.deepEqual(rules.warningsOf?.(value), [
      "keepFor is now called keepDuration",
      "keepFor is left out, since keepDuration is there",
    ]);
  });

  test("is what it is said to be", () => {
    const asSaid = <T>(kind: Kind<T>, value: T) =>
      assert.deepEqual(kind.fromToml(tomlValue(inlineToml(kind.toToml(value)))), value);
    fc.assert(fc.property(fc.nat(), (ms) => asSaid(duration, ms)));
    fc.assert(fc.property(fc.nat(), (bytes) => asSaid(diskSpace, { bytes })));
    fc.assert(fc.property(fc.integer({ min: 0, max: 100 }), (percent) => asSaid(diskSpace, { percent })));
    fc.assert(fc.property(fc.string({ unit: "grapheme" }), (value) => asSaid(text, value)));
    fc.assert(fc.property(fc.dictionary(fc.string(), fc.string()), (value) => asSaid(pairs, { ...value })));
    asSaid(rules, [{ keepDuration: 1500, filters: ["a,b"] }, {}]);
  });
});

function tomlValue(toml: string): TomlValue {
  const { value } = parse(`value = ${toml}`);
  assert(value !== undefined);
  return value;
}
