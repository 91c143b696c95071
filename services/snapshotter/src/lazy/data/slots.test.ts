import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Slots, type Urgency } from "./slots.ts";

/** Work that begins and ends when it is told to. */
class Works {
  /** Names, in the order in which they began. */
  readonly begun: string[] = [];
  readonly #slots: Slots;
  readonly #ends = new Map<string, PromiseWithResolvers<void>>();

  constructor(slots: Slots) {
    this.#slots = slots;
  }

  want(urgency: Urgency, ...names: string[]): void {
    for (const name of names) {
      const end = Promise.withResolvers<void>();
      this.#ends.set(name, end);
      void this.#slots.run(urgency, () => {
        this.begun.push(name);
        return end.promise;
      });
    }
  }

  /** Ends those, one after the other, each when whoever begins in its place has begun. */
  async end(...names: string[]): Promise<void> {
    for (const name of names) {
      this.#ends.get(name)?.resolve();
      await settled();
    }
  }
}

/** Lets everything happen that waits for nothing else. */
async function settled(): Promise<void> {
  await new Promise(setImmediate);
}

describe("Slots", () => {
  test("admits so many at a time, in the order in which they came, and counts those that fail", async () => {
    const slots = new Slots(2);
    const works = new Works(slots);
    const failing = slots.run("demand", () => Promise.reject(new Error("no")));
    works.want("demand", "a", "b", "c");
    await assert.rejects(failing, /no/);
    await settled();
    assert.deepEqual(works.begun, ["a", "b"]);
    await works.end("b", "a");
    assert.deepEqual(works.begun, ["a", "b", "c"]);
  });

  test("prefers what somebody waits for to what is fetched ahead", async () => {
    const works = new Works(new Slots(1));
    works.want("background", "ahead 1", "ahead 2");
    works.want("demand", "read 1", "read 2");
    await settled();
    assert.deepEqual(works.begun, ["ahead 1"]);
    await works.end("ahead 1", "read 1", "read 2");
    assert.deepEqual(works.begun, ["ahead 1", "read 1", "read 2", "ahead 2"]);
  });

  test("has what is fetched ahead come to its turn, however much is read", async () => {
    const works = new Works(new Slots(1));
    const reads = Array.from({ length: 20 }, (_, index) => `read ${index}`);
    works.want("demand", ...reads);
    works.want("background", "ahead");
    for (const name of reads) {
      await works.end(name);
    }
    const turn = works.begun.indexOf("ahead");
    assert.ok(turn > 1 && turn < 12, `ahead was number ${turn}`);
  });

  test("leaves room for those who wait beside what is fetched ahead", async () => {
    const works = new Works(new Slots(4));
    works.want("background", "ahead 1", "ahead 2", "ahead 3", "ahead 4");
    await settled();
    assert.deepEqual(works.begun, ["ahead 1", "ahead 2"]);
    works.want("demand", "read");
    await settled();
    assert.deepEqual(works.begun, ["ahead 1", "ahead 2", "read"]);
  });

  test("is quiet at once while nobody has waited, and for whoever gives up", async () => {
    const slots = new Slots(1);
    await slots.quiet(new AbortController().signal);
    const works = new Works(slots);
    works.want("demand", "read");
    const over = new AbortController();
    const quiet = slots.quiet(over.signal);
    over.abort();
    await quiet;
    await works.end("read");
  });

  test("is not quiet before what somebody waits for has come", async () => {
    const slots = new Slots(1);
    const came = Promise.withResolvers<void>();
    const order: string[] = [];
    const reading = slots.run("demand", () => came.promise).then(() => order.push("read"));
    const quiet = slots.quiet(new AbortController().signal).then(() => order.push("quiet"));
    await settled();
    came.resolve();
    await Promise.all([reading, quiet]);
    assert.deepEqual(order, ["read", "quiet"]);
  });
});
