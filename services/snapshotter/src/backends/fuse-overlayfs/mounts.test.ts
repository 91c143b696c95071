import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gidMappingLabel, uidMappingLabel } from "@oci-worker/snapshots/id-mapping";
import { fuseOverlayMounts } from "./mounts.ts";

describe("fuseOverlayMounts", () => {
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
      name: "active on one layer",
      kind: "active",
      parents: ["/s/1"],
      want: ["fuse3.fuse-overlayfs", "overlay", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/1/fs"],
    },
    {
      name: "view of one layer binds that layer: no process serves what is there already",
      kind: "view",
      parents: ["/s/1"],
      want: ["bind", "/s/1/fs", "ro", "rbind"],
    },
    {
      name: "active on two layers lists the nearest first",
      kind: "active",
      parents: ["/s/2", "/s/1"],
      want: [
        "fuse3.fuse-overlayfs",
        "overlay",
        "workdir=/s/3/work",
        "upperdir=/s/3/fs",
        "lowerdir=/s/2/fs:/s/1/fs",
      ],
    },
    {
      name: "view of two layers has no upper directory, and is read-only for the kernel too",
      kind: "view",
      parents: ["/s/2", "/s/1"],
      want: ["fuse3.fuse-overlayfs", "overlay", "ro", "lowerdir=/s/2/fs:/s/1/fs"],
    },
  ] as const;
  for (const { name, kind, parents, want } of cases) {
    test(name, () => {
      const [mount, ...others] = fuseOverlayMounts({ kind, directory: "/s/3", parents, labels: {} });
      assert.deepEqual([mount?.type, mount?.source, ...(mount?.options ?? [])], want);
      assert.deepEqual(others, []);
    });
  }

  test("maps of ids are the program's on an overlay, and the kernel's on a bind", () => {
    const labels = { [uidMappingLabel]: "0:1000:1,1:2000:10", [gidMappingLabel]: "0:3000:5" };
    const optionsOn = (...parents: string[]) =>
      fuseOverlayMounts({ kind: "active", directory: "/s/3", parents, labels })[0]?.options;
    assert.deepEqual(optionsOn("/s/1")?.slice(0, 2), [
      "uidmapping=0:1000:1:1:2000:10",
      "gidmapping=0:3000:5",
    ]);
    assert.deepEqual(optionsOn(), ["uidmap=0:1000:1,1:2000:10", "gidmap=0:3000:5", "rw", "rbind"]);
  });
});
