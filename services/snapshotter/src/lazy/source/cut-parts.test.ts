import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { cutParts } from "./cut-parts.ts";

const blob = Buffer.from(Array.from({ length: 100 }, (_, at) => at));
const parts = [
  { offset: 10, sizeBytes: 20 },
  { offset: 30, sizeBytes: 1 },
  { offset: 50, sizeBytes: 30 },
];

/** The blob from the first part on, in pieces of `sizeBytes`. */
async function* pieces(sizeBytes: number, told: string[] = []): AsyncGenerator<Buffer> {
  for (let at = 10; at < blob.length; at += sizeBytes) {
    told.push(`${at} comes`);
    yield blob.subarray(at, at + sizeBytes);
  }
}

describe("cutParts", () => {
  for (const sizeBytes of [1, 7, 20, 100]) {
    test(`gives each part, out of pieces of ${sizeBytes}`, async () => {
      const taken: Buffer[] = [];
      await cutParts(pieces(sizeBytes), parts, (_, bytes) => void taken.push(bytes));
      assert.deepEqual(
        taken,
        parts.map((part) => blob.subarray(part.offset, part.offset + part.sizeBytes)),
      );
    });
  }

  test("has bytes come while a part is being taken, and no other part be taken meanwhile", async () => {
    const told: string[] = [];
    const first = Promise.withResolvers<void>();
    await cutParts(pieces(20, told), parts, ({ offset }) => {
      told.push(`${offset} taken`);
      if (offset !== 10) {
        return undefined;
      }
      setImmediate(() => {
        told.push("10 done");
        first.resolve();
      });
      return first.promise;
    });
    assert.deepEqual(told, [
      ...["10 comes", "10 taken", "30 comes", "10 done", "30 taken"],
      ...["50 comes", "70 comes", "50 taken", "90 comes"],
    ]);
  });

  test("does not end before all has been taken, also when the bytes end too early", async () => {
    let isDone = false;
    const cut = cutParts(
      (async function* () {
        yield blob.subarray(10, 40);
        throw new Error("cut off");
      })(),
      parts,
      async () => {
        await new Promise(setImmediate);
        isDone = true;
      },
    );
    await assert.rejects(cut, /cut off/);
    assert(isDone);
  });
});
