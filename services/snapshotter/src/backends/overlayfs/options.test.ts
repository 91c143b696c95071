import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { overlayOptionSets } from "./options.ts";

describe("overlayOptionSets", () => {
  const cases = [
    { name: "a kernel of today", hasIndex: true, inUserNamespace: false, want: [["index=off"]] },
    { name: "a kernel without index", hasIndex: false, inUserNamespace: false, want: [[]] },
    {
      name: "a user namespace: its own attributes first, then none",
      hasIndex: true,
      inUserNamespace: true,
      want: [["index=off", "userxattr"], ["index=off"]],
    },
    {
      name: "a user namespace on a kernel without index",
      hasIndex: false,
      inUserNamespace: true,
      want: [["userxattr"], []],
    },
  ];
  for (const { name, want, ...host } of cases) {
    test(name, () => {
      assert.deepEqual(overlayOptionSets(host), want);
    });
  }
});
