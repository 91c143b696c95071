import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { together } from "./together.ts";

const never = new AbortController().signal;

test("gives results in the order of the items, and works on no more than was said", async () => {
  let [working, most] = [0, 0];
  const turns = [3, 1, 2, 0];
  const results = await together(
    turns,
    2,
    async (count) => {
      working += 1;
      most = Math.max(most, working);
      for (let turn = 0; turn < count; turn += 1) {
        await new Promise(setImmediate);
      }
      working -= 1;
      return count * 10;
    },
    never,
  );
  assert.deepEqual([results, most], [[30, 10, 20, 0], 2]);
});

test("waits for the others when one fails, has them aborted, and begins no more", async () => {
  const ended: string[] = [];
  const working = together(
    ["hangs", "fails", "late"],
    2,
    async (item, signal) => {
      if (item === "hangs") {
        await once(signal, "abort");
        ended.push(item);
        throw new Error("aborted");
      }
      ended.push(item);
      throw new Error("the first");
    },
    never,
  );
  await assert.rejects(working, /the first/);
  assert.deepEqual(ended, ["fails", "hangs"]);
});

test("begins nothing for who has gone", async () => {
  const gone = new Error("gone");
  await assert.rejects(
    together([1], 2, () => assert.fail(), AbortSignal.abort(gone)),
    gone,
  );
});
