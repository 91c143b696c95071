import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatClient, keySchemeOf, parseClient } from "./client.ts";

describe("keySchemeOf", () => {
  const keys = [
    ["k8s.io/12/sha256:0b1c", "containerd"],
    ["default/1/extract-123-ab sha256:0b1c", "containerd"],
    ["buildkit/7/abcdefgh", "containerd"],
    ["name_space-1/3/a/b/../c", "containerd"],
    ["sha256:0b1c", "own"],
    ["result-abc", "own"],
    [`sha256:${"0b1c".repeat(16)}`, undefined],
    [`sha256:${"0b1c".repeat(16)} on 7`, undefined],
    ["../../etc/passwd", "own"],
    ["a/b/c", "own"],
    ["a/0/c", "own"],
    ["a/1/", "own"],
    ["a/1", "own"],
    ["/1/c", "own"],
    ["-a/1/c", "own"],
  ] as const;
  for (const [key, scheme] of keys) {
    test(`tells that ${JSON.stringify(key)} is ${scheme}`, () => assert.equal(keySchemeOf(key), scheme));
  }
});

describe("parseClient", () => {
  test("reads what formatClient has written", () => {
    for (const client of [
      { name: "ours", keys: "containerd" },
      { name: "", keys: undefined },
    ] as const) {
      assert.deepEqual(parseClient(formatClient(client)), client);
    }
  });

  for (const text of ["", "null", "[]", "{}", '{"name":1}', "ours"]) {
    test(`takes ${JSON.stringify(text)} for nobody`, () => assert.equal(parseClient(text), undefined));
  }
});
