import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type FileType, fileTypeOf, goMode, hasContent, permissionBits } from "./mode.ts";

describe("goMode gives the numbers that Go has for", () => {
  // Printed by a Go program: uint32(os.ModeDir|0o755) and so on.
  const cases: [type: FileType, mode: number, want: number][] = [
    ["file", 0o644, 420],
    ["file", 0o4755, 8_389_101],
    ["directory", 0o755, 2_147_484_141],
    ["directory", 0o1777, 2_148_532_735],
    ["symlink", 0o777, 134_218_239],
    ["fifo", 0o600, 33_554_816],
    ["character-device", 0o2620, 73_400_720],
    ["block-device", 0o660, 67_109_296],
  ];
  for (const [type, mode, want] of cases) {
    test(`${type} 0${mode.toString(8)}`, () => {
      assert.equal(goMode(type, mode), want);
    });
  }
});

test("a mode that was made is read back as what it was made of", () => {
  const types = ["file", "directory", "symlink", "fifo", "character-device", "block-device"] as const;
  fc.assert(
    fc.property(fc.constantFrom(...types), fc.nat(0o7777), (type, mode) => {
      const made = goMode(type, mode);
      assert(made >= 0);
      assert.equal(fileTypeOf(made), type);
      assert.equal(permissionBits(made), mode);
      assert.equal(hasContent(made), type === "file");
    }),
  );
});
