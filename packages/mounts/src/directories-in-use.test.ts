import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { directoriesInUse } from "./directories-in-use.ts";
import { parseMountInfo } from "./mountinfo.ts";

/** A disk of its own at /var/lib, with the snapshots at /var/lib/s, which is /lib/s on that disk. */
const machine = ["20 1 8:1 / / rw - ext4 /dev/sda1 rw", "21 20 8:2 /lib /var/lib rw - ext4 /dev/sda2 rw"];

function inUse(...lines: string[]): Record<string, string> {
  const found = directoriesInUse(parseMountInfo([...machine, ...lines].join("\n")), "/var/lib/s");
  return Object.fromEntries([...found].map(([name, mountPoints]) => [name, mountPoints.join(" ")]));
}

describe("directoriesInUse", () => {
  test("knows none where nothing is mounted that concerns them", () => {
    assert.deepEqual(
      inUse("22 20 0:9 / /proc rw - proc proc rw", "23 20 8:2 /lib/s /elsewhere rw - ext4 x rw"),
      {},
    );
  });

  test("knows those that something is mounted in", () => {
    assert.deepEqual(inUse("22 21 0:9 / /var/lib/s/7/fs/x rw - tmpfs tmpfs rw"), { 7: "/var/lib/s/7/fs/x" });
  });

  test("knows what an overlay writes to and shows, however its options are spelt", () => {
    const overlay = (at: string, options: string) => `22 20 0:40 / ${at} rw - overlay overlay rw,${options}`;
    assert.deepEqual(
      inUse(
        overlay(
          "/a",
          "lowerdir=/var/lib/s/1/fs:/var/lib/s/2/fs,upperdir=/var/lib/s/3/fs,workdir=/var/lib/s/3/work",
        ),
        overlay("/b", "lowerdir+=/var/lib/s/4/fs,lowerdir+=/var/lib/s/5/fs"),
        overlay("/c", "lowerdir=6/fs:7/fs,upperdir=/var/lib/s/8/fs,workdir=/var/lib/s/8/work"),
        overlay("/d", "lowerdir=/somewhere/9/fs"),
      ),
      { 1: "/a", 2: "/a", 3: "/a", 4: "/b", 5: "/b", 6: "/c", 7: "/c", 8: "/c" },
    );
  });

  test("knows every mount that shows one", () => {
    assert.deepEqual(
      inUse(
        "22 20 0:40 / /a rw - overlay overlay rw,lowerdir=/var/lib/s/1/fs,upperdir=/var/lib/s/2/fs",
        "23 20 0:41 / /b rw - overlay overlay rw,lowerdir=/var/lib/s/1/fs,upperdir=/var/lib/s/3/fs",
        "24 20 8:2 /lib/s/1/fs /c rw - ext4 /dev/sda2 rw",
      ),
      { 1: "/a /b /c", 2: "/a", 3: "/b" },
    );
  });

  test("knows what a bind mount shows, and tells apart the same path on another disk", () => {
    assert.deepEqual(
      inUse(
        "22 20 8:2 /lib/s/1/fs /a rw - ext4 /dev/sda2 rw",
        "23 20 8:1 /lib/s/2/fs /b rw - ext4 /dev/sda1 rw",
        "24 20 8:2 /lib/s-other/3/fs /c rw - ext4 /dev/sda2 rw",
      ),
      { 1: "/a" },
    );
  });
});
