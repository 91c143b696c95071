import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Mount } from "./mount.ts";
import { layersOf, readOnlyMounts } from "./read-only.ts";

const overlay = (...options: string[]): Mount => ({ type: "overlay", source: "overlay", options });

describe("readOnlyMounts", () => {
  const cases: [name: string, mount: Mount, want: Mount][] = [
    [
      "has the upper directory of an overlay as its first lower one",
      overlay("index=off", "volatile", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b"),
      overlay("index=off", "lowerdir=/u:/a:/b"),
    ],
    ["leaves an overlay without one as it is", overlay("lowerdir=/a:/b"), overlay("lowerdir=/a:/b")],
    [
      "has no overlay of one directory, which the kernel refuses",
      overlay("lowerdir=/a"),
      { type: "bind", source: "/a", options: ["rbind", "ro"] },
    ],
    [
      "keeps the type of what is no overlay of the kernel",
      {
        type: "fuse3.fuse-overlayfs",
        source: "overlay",
        options: ["workdir=/w", "upperdir=/u", "lowerdir=/a"],
      },
      { type: "fuse3.fuse-overlayfs", source: "overlay", options: ["lowerdir=/u:/a"] },
    ],
    [
      "makes a bind mount read-only",
      { type: "bind", source: "/a", options: ["rbind", "rw"] },
      { type: "bind", source: "/a", options: ["rbind", "ro"] },
    ],
    [
      "says so to an overlay whose directories it cannot tell apart",
      overlay("lowerdir=/a\\:b:/c"),
      overlay("lowerdir=/a\\:b:/c", "ro"),
    ],
    [
      "says so to an overlay with mapped ids, whose upper directory cannot be a lower one",
      overlay("uidmap=0:1:1", "gidmap=0:1:1", "workdir=/w", "upperdir=/u", "lowerdir=/a"),
      overlay("uidmap=0:1:1", "gidmap=0:1:1", "workdir=/w", "upperdir=/u", "lowerdir=/a", "ro"),
    ],
  ];
  for (const [name, mount, want] of cases) {
    test(name, () => assert.deepEqual(readOnlyMounts([mount]), [want]));
  }
});

test("layersOf tells what is on what, the uppermost first, where it can", () => {
  assert.deepEqual(layersOf(overlay("workdir=/w", "upperdir=/u", "lowerdir=/a:/b")), ["/u", "/a", "/b"]);
  assert.deepEqual(layersOf({ type: "none", source: "/a", options: ["bind"] }), ["/a"]);
  assert.equal(layersOf(overlay("lowerdir=/a::/data")), undefined);
  assert.equal(layersOf({ type: "erofs", source: "/image", options: [] }), undefined);
});
