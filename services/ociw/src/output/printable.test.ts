import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAge } from "./age.ts";
import { printable, shellWord, shortName } from "./printable.ts";

test("what would steer the terminal or turn the text round is written out, all else is left alone", () => {
  assert.equal(printable("a\x1b[2J\n\u202eb\u00e9"), "a\\x1b[2J\\x0a\\u{202e}b\u00e9");
  assert.equal(printable(Buffer.from([0x61, 0xff, 0x0a])), "a\\xff\\x0a");
  assert.equal(printable(Buffer.from("\u00e9")), "\u00e9");
});

test("a digest at the end of a key is shortened", () => {
  const hex = "0123456789abcdef".repeat(4);
  assert.equal(shortName(`default/7/sha256:${hex}`), "default/7/sha256:0123456789ab");
  assert.equal(shortName(`sha256:${hex}-extract`), `sha256:${hex}-extract`);
});

test("a word is quoted for a shell where it has to be", () => {
  assert.equal(shellWord("lowerdir=/a:/b"), "lowerdir=/a:/b");
  assert.equal(shellWord("it's $HOME"), "'it'\\''s $HOME'");
  assert.equal(shellWord(""), "''");
});

test("an age has one unit, and is of no time if there is none", () => {
  const now = 1_700_000_000_000;
  const ago = (seconds: number) => formatAge(BigInt(now / 1000 - seconds) * 1_000_000_000n, now);
  assert.deepEqual([0, 119, 120, 7199, 7200, 172_799, 172_800].map(ago), [
    "0s",
    "119s",
    "2m",
    "119m",
    "2h",
    "47h",
    "2d",
  ]);
  assert.equal(ago(-60), "0s");
  assert.equal(formatAge(-62_135_596_800_000_000_000n, now), "-");
});
