import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import {
  absolutePath,
  milliseconds,
  oneOf,
  refuseUnknownKeys,
  socketPath,
  text,
  texts,
  truth,
  wholeNumber,
} from "./setting.ts";

describe("a setting", () => {
  test("that is a socket may have unix:// before it", () => {
    assert.equal(socketPath("address", "unix:///run/s.sock"), "/run/s.sock");
    assert.equal(socketPath("address", `/${"x".repeat(106)}`).length, 107);
  });

  test("that is a path loses doubled slashes and the one at its end", () => {
    assert.equal(absolutePath("root", "//a//b/"), "/a/b");
    assert.equal(absolutePath("root", "/"), "/");
  });

  test("from the environment is a text, whatever it means", () => {
    assert.equal(truth("sync", "true"), true);
    assert.equal(truth("sync", "false"), false);
    assert.equal(milliseconds("drain", "250", 0), 250);
    assert.equal(wholeNumber("quota", "20000000000", 0), 20_000_000_000);
    assert.deepEqual(texts("options", "a, b"), ["a", "b"]);
    assert.deepEqual(texts("options", ["a,b"]), ["a,b"]);
  });

  const wrong: readonly (readonly [what: string, check: () => unknown, wanted: RegExp])[] = [
    ["a relative socket", () => socketPath("key", "run/s.sock"), /key is "run\/s\.sock", want an absolute/],
    ["a socket elsewhere", () => socketPath("key", "tcp://127.0.0.1:1"), /key is "tcp:/],
    ["a long socket", () => socketPath("key", `/${"é".repeat(54)}`), /at most 107 bytes/],
    ["a relative path", () => absolutePath("key", "a"), /key is "a", want an absolute path/],
    ["a path with a NUL", () => absolutePath("key", "/a\0b"), /want an absolute path/],
    ["an empty text", () => text("key", ""), /key is "", want a text/],
    ["no text", () => text("key", undefined), /key is nothing, want a text/],
    ["a list with nothing in a place", () => texts("key", "a,,b"), /key is "a,,b", want a list of texts/],
    ["a list of numbers", () => texts("key", [1]), /key is \[1\], want a list/],
    ["a word for a truth", () => truth("key", "yes"), /key is "yes", want true or false/],
    ["a number below the least", () => wholeNumber("key", 0, 1), /key is 0, want a whole number from 1 on/],
    ["a number with a unit", () => wholeNumber("key", "10GB", 0), /key is "10GB"/],
    ["a number that is not whole", () => wholeNumber("key", 1.5, 0), /key is 1.5/],
    ["a time below the least", () => milliseconds("key", 0, 1), /key is 0, want .* from 1 to 2147483647/],
    ["a time with a unit", () => milliseconds("key", "10s", 0), /key is "10s"/],
    ["a time that no timer has", () => milliseconds("key", 2 ** 31, 0), /want .* to 2147483647/],
    ["an integer of TOML", () => milliseconds("key", 5n, 0), /key is 5, want/],
    ["another name", () => oneOf("key", "c", ["a", "b"]), /key is "c", want one of a, b/],
    ["a long value", () => text("key", ["x".repeat(5000)]), /^.{0,300}$/],
    [
      "an unknown key",
      () => refuseUnknownKeys({ tset: 1 }, { test: 1 }),
      /unknown key "tset", want test \(or/,
    ],
    ["a key of all objects", () => refuseUnknownKeys({ toString: 1 }, { test: 1 }), /unknown key "toString"/],
  ];
  for (const [what, check, wanted] of wrong) {
    test(`that is ${what} is refused, with what is wanted`, () => {
      assert.throws(check, (error) => error instanceof InvalidArgumentError && wanted.test(error.message));
    });
  }
});
