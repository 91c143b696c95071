import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promises } from "./conformance.ts";

const repository = join(import.meta.dirname, "../../../..");
const lines = readFileSync(join(repository, "docs/snapshots-conformance.md"), "utf8").split("\n");

/** The rows of the page's tables: the statements' numbers, and the cases. */
const rows = lines.flatMap((line) => {
  const [, first, last = first, cases] = /^\| (\d+)(?:-(\d+))? \| .* \| (.*) \|$/.exec(line) ?? [];
  return cases === undefined
    ? []
    : [{ first: Number(first), last: Number(last), cases: cases.split("<br>") }];
});

describe("docs/snapshots-conformance.md", () => {
  test("has each of the 92 statements once, in order", () => {
    const numbers = rows.flatMap(({ first, last }) =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index),
    );
    assert.deepEqual(
      numbers,
      Array.from({ length: 92 }, (_, index) => index + 1),
    );
  });

  test("names cases that there are", () => {
    for (const each of rows.flatMap(({ cases }) => cases)) {
      const [, file, name] = /^`([^`]+)`: (.+)$/.exec(each) ?? [];
      if (file === undefined || name === undefined) {
        assert(Object.hasOwn(promises, each), `no case is called ${JSON.stringify(each)}`);
      } else {
        assert(
          readFileSync(join(repository, file), "utf8").includes(`"${name}"`),
          `${file} has no case "${name}"`,
        );
      }
    }
  });
});
