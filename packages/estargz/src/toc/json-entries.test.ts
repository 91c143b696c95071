import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { JsonEntries } from "./json-entries.ts";

/** The entries of `json`, which comes in pieces whose memory is used again. */
function entriesOf(json: Buffer, pieceBytes: number): unknown[] {
  const entries: unknown[] = [];
  const reader = new JsonEntries((entry) => entries.push(entry), 1000);
  const piece = Buffer.alloc(pieceBytes);
  for (let at = 0; at < json.length; at += pieceBytes) {
    const length = json.copy(piece, 0, at);
    reader.write(piece.subarray(0, length));
    piece.fill("{");
  }
  reader.end();
  return entries;
}

describe("JsonEntries", () => {
  const letters = ['"', "{", "}", "[", "]", ",", ":", "a", "é", "\u{1f600}", "\n"];
  // JSON.parse of Node 26.10 takes a key `\"` for a key `\` once it has seen that one: this is not about keys.
  const key = fc.string({ unit: fc.constantFrom(...letters) });
  const text = fc.string({ unit: fc.constantFrom("\\", ...letters) });
  const entry = fc.dictionary(key, fc.oneof(text, fc.nat(), fc.array(text), fc.dictionary(key, text)), {
    maxKeys: 4,
  });

  test("gives every entry, however the JSON is cut into pieces", () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 6 }),
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom("", "\t"),
        (entries, pieceBytes, indent) => {
          const json = Buffer.from(JSON.stringify({ version: 1, entries, more: "x" }, null, indent));
          assert.deepEqual(JSON.stringify(entriesOf(json, pieceBytes)), JSON.stringify(entries));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("makes of any bytes entries or a clear error", () => {
    const good = Buffer.from('{"version":1,"entries":[{"a":"b"},{"c":[{"d":1}]}]}');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        (changes) => {
          const damaged = Buffer.from(good);
          for (const [at, byte] of changes) {
            damaged[at] = byte;
          }
          try {
            const entries = entriesOf(damaged, 7);
            assert.deepEqual(entries, (JSON.parse(damaged.toString()) as { entries: unknown }).entries);
          } catch (error) {
            assert(error instanceof InvalidArgumentError, String(error));
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("takes no more memory than one entry, and refuses what never ends", () => {
    const reader = () => new JsonEntries(() => undefined, 10);
    const endless = Buffer.alloc(1024 * 1024 + 1, "x");
    const starts = ['{"version":1,"entries":[{"', '{"', ""];
    for (const start of starts) {
      const entries = reader();
      entries.write(Buffer.from(start));
      assert.throws(() => entries.write(endless), ResourceExhaustedError);
    }
  });
});
