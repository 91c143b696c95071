import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { batches } from "./batches.ts";

/** Pages of three numbers, the last one of what is left. */
async function* numbers(count: number): AsyncGenerator<number[]> {
  const all = [...Array(count).keys()];
  for (let index = 0; index < count; index += 3) {
    yield all.slice(index, index + 3);
  }
}

async function sizesOf(count: number, bytes: (item: number) => number): Promise<number[]> {
  const all = await Array.fromAsync(batches(numbers(count), bytes));
  assert.deepEqual(all.flat(), [...Array(count).keys()]);
  return all.map((batch) => batch.length);
}

describe("batches", () => {
  test("holds at most a hundred items each", async () => {
    assert.deepEqual(await sizesOf(250, () => 1), [100, 100, 50]);
    assert.deepEqual(await sizesOf(100, () => 1), [100]);
  });

  test("of nothing are none", async () => {
    assert.deepEqual(await sizesOf(0, () => 1), []);
  });

  test("hold at most 4 MiB each, save for an item that is larger alone", async () => {
    assert.deepEqual(await sizesOf(5, () => 2 * 1024 * 1024), [2, 2, 1]);
    assert.deepEqual(await sizesOf(3, (item) => (item === 1 ? 9_000_000 : 1)), [1, 1, 1]);
  });
});
