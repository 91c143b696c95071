import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { overlayMounts } from "./mounts.ts";

describe("overlayMounts", () => {
  const cases = [
    {
      name: "active on nothing is a writable bind of its own directory",
      kind: "active",
      parents: [],
      want: ["bind", "/s/3/fs", "rw", "rbind"],
    },
    {
      name: "view of nothing is a read-only bind of its own directory",
      kind: "view",
      parents: [],
      want: ["bind", "/s/3/fs", "ro", "rbind"],
    },
    {
      name: "active on one layer is an overlay on it",
      kind: "active",
      parents: ["/s/1"],
      want: ["overlay", "overlay", "index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/1/fs"],
    },
    {
      name: "view of one layer binds that layer, because overlayfs refuses a single lower directory",
      kind: "view",
      parents: ["/s/1"],
      want: ["bind", "/s/1/fs", "ro", "rbind"],
    },
    {
      name: "active on two layers lists the nearest first",
      kind: "active",
      parents: ["/s/2", "/s/1"],
      want: [
        "overlay",
        "overlay",
        "index=off",
        "workdir=/s/3/work",
        "upperdir=/s/3/fs",
        "lowerdir=/s/2/fs:/s/1/fs",
      ],
    },
    {
      name: "view of two layers has no upper directory, so it is read-only",
      kind: "view",
      parents: ["/s/2", "/s/1"],
      want: ["overlay", "overlay", "index=off", "lowerdir=/s/2/fs:/s/1/fs"],
    },
  ] as const;
  for (const { name, kind, parents, want } of cases) {
    test(name, () => {
      const [mount, ...others] = overlayMounts(kind, "/s/3", parents, ["index=off"]);
      assert.deepEqual([mount?.type, mount?.source, ...(mount?.options ?? [])], want);
      assert.deepEqual(others, []);
    });
  }

  test("options of the overlay come first and never on a bind mount", () => {
    const options = ["index=off", "userxattr"];
    assert.deepEqual(overlayMounts("active", "/s/2", ["/s/1"], options)[0]?.options.slice(0, 2), options);
    assert.deepEqual(overlayMounts("active", "/s/1", [], options)[0]?.options, ["rw", "rbind"]);
  });
});
