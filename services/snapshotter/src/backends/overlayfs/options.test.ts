import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { lastOfEach, objectionTo } from "./mount-options.ts";
import { overlayOptionSets } from "./options.ts";

describe("overlayOptionSets", () => {
  const modern = { hasIndex: true, inUserNamespace: false };
  const nested = { hasIndex: true, inUserNamespace: true };
  const cases = [
    { name: "a kernel of today", host: modern, want: [["index=off"]] },
    { name: "a kernel without index", host: { hasIndex: false, inUserNamespace: false }, want: [[]] },
    {
      name: "a user namespace: its own attributes first, then none",
      host: nested,
      want: [["index=off", "userxattr"], ["index=off"]],
    },
    {
      name: "a user namespace on a kernel without index",
      host: { hasIndex: false, inUserNamespace: true },
      want: [["userxattr"], []],
    },
    {
      name: "an operator's options, of each name the last",
      host: modern,
      mountOptions: ["xino=on", "volatile", "xino=off"],
      want: [["index=off", "volatile", "xino=off"]],
    },
    {
      name: "an operator who wants an index",
      host: modern,
      mountOptions: ["index=on"],
      want: [["index=on"]],
    },
    {
      name: "an operator who wants what we would choose",
      host: nested,
      mountOptions: ["userxattr", "index=off"],
      want: [
        ["userxattr", "index=off"],
        ["userxattr", "index=off"],
      ],
    },
  ];
  for (const { name, host, mountOptions = [], want } of cases) {
    test(name, () => {
      assert.deepEqual(overlayOptionSets(host, mountOptions), want);
    });
  }
});

describe("objectionTo", () => {
  const refused = [
    ["lowerdir=/a", /lowerdir itself/],
    ["lowerdir+=/a", /itself/],
    ["upperdir=/a", /upperdir itself/],
    ["workdir=/a", /workdir itself/],
    ["workdir", /workdir itself/],
    ["uidmap=0:0:1", /labels/],
    ["metacopy=on", /lack content/],
    ["redirect_dir=on", /lack content/],
    ["verity=require", /lack content/],
    ["index=on,metacopy=on", /one option/],
    ["index=on upperdir=/a", /one option/],
    ["", /one option/],
    ["a\0b", /one option/],
  ] as const;
  for (const [option, why] of refused) {
    test(`refuses ${JSON.stringify(option)}`, () => {
      assert.match(objectionTo(option) ?? "", why);
    });
  }

  for (const option of [
    "index=on",
    "metacopy=off",
    "redirect_dir=nofollow",
    "xino=auto",
    "volatile",
    "nodev",
  ]) {
    test(`lets ${option} be`, () => {
      assert.equal(objectionTo(option), undefined);
    });
  }
});

test("lastOfEach keeps the order of those that count", () => {
  assert.deepEqual(lastOfEach(["a=1", "b", "a=2", "c=x=y", "b"]), ["a=2", "c=x=y", "b"]);
});
