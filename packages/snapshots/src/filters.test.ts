import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { parseFilters } from "./filters.ts";
import type { Info, Kind } from "./snapshotter.ts";

function info(name: string, parent: string | undefined, kind: Kind, labels: Record<string, string>): Info {
  return { name, parent, kind, labels, createdAtNs: 0n, updatedAtNs: 0n };
}

const base = info("sha256:abc", undefined, "committed", {
  "containerd.io/snapshot.ref": "sha256:abc",
  l: "1",
});
const child = info("default/7/child", "sha256:abc", "active", { l: "2", "a.b/c": "x, y", empty: "" });
const view = info("look at", "sha256:abc", "view", { 'quo"te': "é" });
const all = [base, child, view];

function matching(...filters: string[]): string[] {
  const matches = parseFilters(filters, (problem) => assert.fail(problem));
  return all.filter(matches).map(({ name }) => name);
}

const [b, c, v] = all.map(({ name }) => name) as [string, string, string];

describe("parseFilters", () => {
  const cases: readonly (readonly [filters: readonly string[], want: readonly string[]])[] = [
    [[], [b, c, v]],
    [[""], [b, c, v]],
    [
      ["kind==nonsense", ""],
      [b, c, v],
    ],
    [["name==sha256:abc"], [b]],
    [['name=="look at"'], [v]],
    [["name==default/7/child"], [c]],
    [["kind==committed"], [b]],
    [["kind!=committed"], [c, v]],
    [['parent==""'], [b]],
    [['parent!=""'], [c, v]],
    [["parent"], [b, c, v]],
    [["labels.l"], [b, c]],
    [["labels.l==2"], [c]],
    [["labels.l!=2"], [b, v]],
    // An absent label has no value, which is equal to nothing, and differs from everything but the empty text.
    [['labels.absent==""'], []],
    [['labels.absent!=""'], []],
    [["labels.absent!=x"], [b, c, v]],
    [['labels.empty==""'], [c]],
    [['labels."containerd.io/snapshot.ref"==sha256:abc'], [b]],
    [['labels.containerd."io/snapshot".ref==sha256:abc'], [b]],
    [['labels."a.b/c"=="x, y"'], [c]],
    [['labels."quo\\"te"==é'], [v]],
    [['labels."quo\\x22te"=="\\xc3\\xa9"'], [v]],
    [['labels."\\161uo\\u0022te"=="\\U000000e9"'], [v]],
    [["labels"], []],
    [["nosuchfield"], []],
    [["nosuchfield!=x"], [b, c, v]],
    [["name.more==sha256:abc"], [b]],
    [["kind==active,labels.l==2"], [c]],
    [["kind==active,labels.l==1"], []],
    [
      ["kind==active", "kind==view"],
      [c, v],
    ],
    [["name == sha256:abc"], [b]],
    [["  name==sha256:abc"], [b]],
    [["name~=^default/[0-9]+/"], [c]],
    [["name~=/^default\\/7/"], [c]],
    [["name~=|o{2}k|"], [v]],
    [["name~=abc"], [b]],
    [["labels.absent~=^$"], [b, c, v]],
    [["name==a=b"], []],
    [["name==a.b"], []],
  ];
  for (const [filters, want] of cases) {
    test(`${JSON.stringify(filters)} lists ${want.length}`, () => {
      assert.deepEqual(matching(...filters), want);
    });
  }

  const refused: readonly (readonly [filter: string, error: RegExp])[] = [
    ["name==", /at character 7: \[name==\]: want a value$/],
    ["name=x", /at character 5: \[name >\|=\|< x\]: want one of "==", "!=", "~="$/],
    ["name===x", /at character 5:/],
    ["==x", /at character 1: \[ >\|=\|< =x\]: want the name of a field$/],
    ["name==a,", /at character 9: \[name==a,\]: want the name of a field$/],
    ["name==a b", /at character 8: \[name==a >\| \|< b\]: want a comma or the end$/],
    ["name==a ,kind==view", /want a comma or the end$/],
    ["name ", /want one of/],
    ["name.", /want the name of a field$/],
    [".name", /want the name of a field$/],
    ["/name/==x", /at character 1: .*: want double quotes here$/],
    ["name==/x/", /at character 7: .*: want double quotes here$/],
    ['name=="x', /the quotation is not closed$/],
    ['name=="x\ny"', /the quotation is not closed$/],
    ['name=="\\q"', /at character 8: .*no such escape sequence/],
    ['name=="\\400"', /it is no valid Go string$/],
    ['name=="\\U00110000"', /it is no valid Go string$/],
    ["name==\0", /no such character is allowed here$/],
    ["%name==x", /no such character is allowed here$/],
  ];
  for (const [filter, error] of refused) {
    test(`${JSON.stringify(filter)} is refused with its position`, () => {
      assert.throws(
        () => parseFilters(["kind==view", filter], () => undefined),
        (thrown) => thrown instanceof InvalidArgumentError && error.test(thrown.message),
      );
    });
  }

  test("a regular expression that is none matches nothing, is reported, and spoils no other filter", () => {
    const problems: string[] = [];
    const matches = parseFilters(["name~=/(/", "kind==view"], (problem) => problems.push(problem));
    assert.deepEqual(all.filter(matches), [view]);
    assert.equal(problems.length, 1);
    assert.match(problems[0] ?? "", /a parenthesis is not closed/);
  });

  test("filters of more than 64 Ki characters are refused", () => {
    const filter = `name==${"x".repeat(40_000)}`;
    assert.throws(() => parseFilters([filter, filter], () => undefined), InvalidArgumentError);
  });

  test("any text is either a filter or an InvalidArgument", () => {
    const piece = fc.constantFrom(
      ...'name kind labels . , == != ~= " / | \\ x a7 ( [ * é \0 \n'.split(" "),
      " ",
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map((pieces) => pieces.join("")),
        ),
        (text) => {
          try {
            all.filter(parseFilters([text], () => undefined));
          } catch (error) {
            assert(error instanceof InvalidArgumentError, String(error));
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("a value in quotes, escaped as JSON does it, is that value", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (value) => {
        const wanted = info("x", undefined, "active", { key: value });
        const literal = JSON.stringify(value).replaceAll("\\/", "/");
        assert(parseFilters([`labels.key==${literal}`], () => undefined)(wanted));
      }),
    );
  });
});
