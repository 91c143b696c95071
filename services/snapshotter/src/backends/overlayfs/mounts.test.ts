import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gidMappingLabel, uidMappingLabel } from "@oci-worker/snapshots/id-mapping";
import { overlayMounts } from "./mounts.ts";
import { overlayOptionSets } from "./options.ts";

const mapped = { [uidMappingLabel]: "0:100000:65536", [gidMappingLabel]: "0:200000:65536" };

/** The mounts of every kind of snapshot, on every host, with all that can be set, one a line. */
function everyCombination(): string {
  const lines: string[] = [];
  for (const kind of ["active", "view"] as const) {
    for (const count of [0, 1, 2, 128]) {
      for (const inUserNamespace of [false, true]) {
        for (const hasIndex of [false, true]) {
          for (const mountOptions of [[], ["index=on"], ["xino=off", "volatile"]]) {
            for (const labels of [{}, mapped]) {
              const parents = Array.from({ length: count }, (_, index) => `/s/${count - index}`);
              const [options = []] = overlayOptionSets({ hasIndex, inUserNamespace }, mountOptions);
              const mounts = overlayMounts({ kind, directory: "/s/999", parents, labels }, options);
              const about = [
                kind,
                `parents=${count}`,
                ...(inUserNamespace ? ["userns"] : []),
                ...(hasIndex ? ["index"] : []),
                ...(mountOptions.length > 0 ? [`options=${mountOptions.join()}`] : []),
                ...(labels === mapped ? ["mapped"] : []),
              ];
              const told = mounts.map(({ type, source, options: all }) => `${type} ${source} ${all.join()}`);
              lines.push(`${about.join(" ")}: ${told.join("; ")}`);
            }
          }
        }
      }
    }
  }
  return `${lines.join("\n")}\n`;
}

describe("overlayMounts", () => {
  test("tells for every combination what testdata/mounts.txt says", (t) => {
    const text = everyCombination();
    assert.equal(text.trimEnd().split("\n").length, 2 * 4 * 2 * 2 * 3 * 2);
    // After a change that is meant: node --test --test-update-snapshots, and read the difference.
    t.assert.fileSnapshot(text, join(import.meta.dirname, "testdata/mounts.txt"), {
      serializers: [(value) => value],
    });
  });
});
