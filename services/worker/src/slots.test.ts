import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Slots } from "./slots.ts";

const patient = new AbortController().signal;

/** Work that ends when the test says so. */
function heldWork() {
  const begun: string[] = [];
  const ends = new Map<string, PromiseWithResolvers<void>>();
  const work = (name: string) => () => {
    begun.push(name);
    const end = Promise.withResolvers<void>();
    ends.set(name, end);
    return end.promise;
  };
  return { begun, work, end: (name: string) => ends.get(name) };
}

describe("slots", () => {
  test("begin as much as there is room for, the rest in the order in which it came", async () => {
    const slots = new Slots(2);
    const { begun, work, end } = heldWork();
    const all = ["a", "b", "c", "d"].map((name) => slots.run(work(name), patient));
    await setImmediate();
    assert.deepEqual(begun, ["a", "b"]);
    end("b")?.resolve();
    await setImmediate();
    assert.deepEqual(begun, ["a", "b", "c"]);
    end("a")?.resolve();
    end("c")?.resolve();
    await setImmediate();
    assert.deepEqual(begun, ["a", "b", "c", "d"]);
    end("d")?.resolve();
    await Promise.all(all);
  });

  test("are free again after work that failed", async () => {
    const slots = new Slots(1);
    await assert.rejects(
      slots.run(() => Promise.reject(new Error("no")), patient),
      /no/,
    );
    assert.equal(await slots.run(() => Promise.resolve("yes"), patient), "yes");
  });

  test("pass over who has gone while waiting", async () => {
    const slots = new Slots(1);
    const { begun, work, end } = heldWork();
    const first = slots.run(work("first"), patient);
    const leaving = new AbortController();
    const left = slots.run(work("left"), leaving.signal);
    const last = slots.run(work("last"), patient);
    leaving.abort(new Error("bye"));
    await assert.rejects(left, /bye/);
    end("first")?.resolve();
    await first;
    await setImmediate();
    assert.deepEqual(begun, ["first", "last"]);
    end("last")?.resolve();
    await last;
  });

  test("stay whole when the one whose turn it is goes in that moment", async () => {
    const slots = new Slots(1);
    const { begun, work, end } = heldWork();
    const first = slots.run(work("first"), patient);
    const leaving = new AbortController();
    const second = slots.run(work("second"), leaving.signal);
    const third = slots.run(work("third"), patient);
    await setImmediate();
    end("first")?.resolve();
    // After the place has been given on, before the second knows.
    queueMicrotask(() => leaving.abort(new Error("bye")));
    await first;
    await setImmediate();
    end("second")?.resolve();
    await second;
    await setImmediate();
    end("third")?.resolve();
    await third;
    assert.deepEqual(begun, ["first", "second", "third"]);
  });

  test("do not begin for one that has gone already", async () => {
    const slots = new Slots(1);
    const { begun, work } = heldWork();
    await assert.rejects(slots.run(work("never"), AbortSignal.abort(new Error("gone"))), /gone/);
    assert.deepEqual(begun, []);
  });
});
