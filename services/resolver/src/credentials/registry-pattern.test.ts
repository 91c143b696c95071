import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  byPrecision,
  parseRegistryPattern,
  patternMatches,
  type RegistryPattern,
} from "./registry-pattern.ts";

function pattern(text: string): RegistryPattern {
  const parsed = parseRegistryPattern(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

const matches = (text: string, host: string, repository = "team/app") =>
  patternMatches(pattern(text), host, repository);

describe("a registry pattern", () => {
  test("is for a host, with its port", () => {
    for (const text of [
      "r.example:5000",
      "https://r.example:5000",
      "https://r.example:5000/v1/",
      "R.example:5000/",
    ]) {
      assert.ok(matches(text, "r.example:5000"), text);
      assert.ok(!matches(text, "r.example"), text);
      assert.ok(!matches(text, "xr.example:5000"), text);
    }
    assert.ok(matches("[::1]:5000", "[::1]:5000"));
  });

  test("is for Docker Hub under each of its names", () => {
    for (const text of ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"]) {
      assert.ok(matches(text, "registry-1.docker.io"), text);
    }
    assert.ok(matches("docker.io/team", "registry-1.docker.io"));
    assert.ok(!matches("docker.io/team", "registry-1.docker.io", "library/alpine"));
  });

  test("may be for a part of the repositories, and never for half a name", () => {
    assert.ok(matches("r.example/team", "r.example"));
    assert.ok(matches("r.example/team/app/", "r.example"));
    assert.ok(matches("https://r.example/v2/team", "r.example"));
    assert.ok(!matches("r.example/tea", "r.example"));
    assert.ok(!matches("r.example/team/app/x", "r.example"));
    assert.ok(!matches("r.example/v1team", "r.example"));
  });

  test("has stars for what is between two dots", () => {
    assert.ok(matches("*.example", "r.example"));
    assert.ok(!matches("*.example", "a.b.example"));
    assert.ok(!matches("*.example", "example"));
    assert.ok(matches("*.*.example:5000", "a.b.example:5000"));
    assert.ok(matches("r-*-x.example", "r-eu-1-x.example"));
    assert.ok(!matches("r-*-x.example", "r-x.example"));
    assert.ok(!matches("a*bc*c.example", "abc.example"));
    assert.ok(matches("a*bc*c.example", "abcc.example"));
  });

  test("that says more counts before one that says less", () => {
    const texts = ["*.example", "r.example", "*.example/team", "r.example/team", "r.example/team/app"];
    assert.deepEqual(
      texts
        .map(pattern)
        .sort(byPrecision)
        .map(({ text }) => text),
      ["r.example/team/app", "r.example/team", "*.example/team", "r.example", "*.example"],
    );
  });

  test("means what a regular expression would, in time that grows with its length", () => {
    const part = fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 8 });
    const name = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 12 });
    fc.assert(
      fc.property(part, name, (text, host) => {
        const expected = new RegExp(`^${text.replaceAll("*", "[^.]*")}$`).test(host);
        assert.equal(patternMatches({ text, host: text, path: "" }, host, "x"), expected);
      }),
    );
    assert.ok(!matches(`${"a*".repeat(500)}b`, "a".repeat(1000)));
  });

  test("is read or refused, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string(), (text, host) => {
        const parsed = parseRegistryPattern(text);
        return parsed === undefined || typeof patternMatches(parsed, host, "team/app") === "boolean";
      }),
    );
    for (const text of ["", "a b", "ftp://r.example", "r.example:port", "u:p@r.example"]) {
      assert.equal(parseRegistryPattern(text), undefined, text);
    }
  });
});
