import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Handoff } from "./handoff.ts";

/** Whether `promise` is settled when all that is due has been done. */
async function isSettled(promise: Promise<unknown> | undefined): Promise<boolean> {
  const later = Symbol("later");
  return (await Promise.race([promise, new Promise((tell) => setImmediate(tell, later))])) !== later;
}

describe("a handoff", () => {
  test("hands on in order, and ends behind what was put in", async () => {
    const handoff = new Handoff<string>({ limit: 2 });
    assert.equal(handoff.put("one"), undefined);
    assert.equal(handoff.put("two"), undefined);
    handoff.end();
    assert.equal(handoff.put("three"), undefined);
    assert.deepEqual(await Array.fromAsync(handoff), ["one", "two"]);
  });

  test("keeps whoever puts in too much until the reader has done with enough of it", async () => {
    const handoff = new Handoff<string>({ limit: 5, sizeOf: ({ length }) => length });
    assert.equal(handoff.put("12345"), undefined);
    const room = handoff.put("678");
    assert.equal(await isSettled(room), false);
    const reader = handoff[Symbol.asyncIterator]();
    assert.equal((await reader.next()).value, "12345");
    assert.equal(await isSettled(room), false, "the reader is still at it");
    assert.equal((await reader.next()).value, "678");
    assert.equal(await isSettled(room), true);
  });

  test("wakes a reader who was there first", async () => {
    const handoff = new Handoff<string>({ limit: 0 });
    const first = handoff[Symbol.asyncIterator]().next();
    assert.equal(await isSettled(first), false);
    void handoff.put("one");
    assert.deepEqual(await first, { done: false, value: "one" });
  });

  test("that nobody reads any more drops what waits, and lets everybody go", async () => {
    const handoff = new Handoff<string>({ limit: 0 });
    const room = handoff.put("one");
    handoff.discard();
    assert.equal(await isSettled(room), true);
    assert.equal(handoff.isEnded, true);
    assert.deepEqual(await Array.fromAsync(handoff), []);
  });

  test("that has failed says so to its reader, and to nobody who puts in", async () => {
    const handoff = new Handoff<string>({ limit: 0 });
    const room = handoff.put("one");
    handoff.fail(new Error("gone"));
    await room;
    await assert.rejects(Array.fromAsync(handoff), /^Error: gone$/);
  });
});
