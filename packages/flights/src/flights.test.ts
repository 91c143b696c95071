import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate, setTimeout } from "node:timers/promises";
import { CanceledError } from "@oci-worker/errdefs";
import { Flights } from "./flights.ts";

const patient = new AbortController().signal;

/** Work that ends when the test says so, or by itself when it is aborted. It counts how often it is begun. */
function heldWork() {
  const runs: { readonly signal: AbortSignal; readonly end: PromiseWithResolvers<string> }[] = [];
  const work = (signal: AbortSignal) => {
    const end = Promise.withResolvers<string>();
    runs.push({ signal, end });
    return end.promise;
  };
  return { runs, work };
}

/** Work that goes on until it is aborted. Unlike a time limit it keeps the process alive. */
function endless(signal: AbortSignal): Promise<string> {
  return setTimeout(1_000_000, "over", { signal });
}

for (const [name, options] of [
  ["without a time limit", {}],
  ["with a time limit", { timeoutMs: 1_000_000 }],
] as const) {
  describe(`flights, ${name},`, () => {
    test("do work once for all who ask while it is under way, and anew after it", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      const all = Promise.all([1, 2, 3].map(() => flights.join("a", work, patient)));
      runs[0]?.end.resolve("first");
      assert.deepEqual(await all, ["first", "first", "first"]);
      const again = flights.join("a", work, patient);
      runs[1]?.end.resolve("second");
      assert.equal(await again, "second");
      assert.equal(runs.length, 2);
    });

    test("keep the work of different keys apart", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      const both = Promise.all(["a", "b"].map((key) => flights.join(key, work, patient)));
      runs[0]?.end.resolve("of a");
      runs[1]?.end.resolve("of b");
      assert.deepEqual(await both, ["of a", "of b"]);
    });

    test("fail for all who wait, and for nobody after them", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      const waiting = [1, 2].map(() => flights.join("a", work, patient));
      runs[0]?.end.reject(new Error("no"));
      await Promise.all(waiting.map((each) => assert.rejects(each, /no/)));
      assert.equal(await flights.join("a", () => Promise.resolve("yes"), patient), "yes");
    });

    test("fail where the work cannot even be begun, and are begun anew", async () => {
      const flights = new Flights<string>(options);
      const broken = () => {
        throw new Error("cannot begin");
      };
      await assert.rejects(flights.join("a", broken, patient), /cannot begin/);
      assert.equal(await flights.join("a", () => Promise.resolve("yes"), patient), "yes");
    });

    test("let a caller go without ending the work for the others", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      const leaving = new AbortController();
      const left = flights.join("a", work, leaving.signal);
      const stayed = flights.join("a", work, patient);
      leaving.abort(new Error("bye"));
      await assert.rejects(left, /bye/);
      assert.equal(runs[0]?.signal.aborted, false);
      runs[0]?.end.resolve("done");
      assert.equal(await stayed, "done");
      assert.equal(runs.length, 1);
    });

    test("do not begin for a caller that has gone already", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      await assert.rejects(flights.join("a", work, AbortSignal.abort(new Error("never"))), /never/);
      assert.equal(runs.length, 0);
    });

    test("do not abort work that is done", async () => {
      const flights = new Flights<string>(options);
      const { runs, work } = heldWork();
      const joined = flights.join("a", work, patient);
      runs[0]?.end.resolve("done");
      await joined;
      await setImmediate();
      assert.equal(runs[0]?.signal.aborted, false);
    });

    test("leave no rejection unhandled, whoever has gone and whatever fails then", async () => {
      const unhandled: unknown[] = [];
      const note = (reason: unknown) => void unhandled.push(reason);
      process.on("unhandledRejection", note);
      try {
        const flights = new Flights<string>(options);
        const { runs, work } = heldWork();
        const leaving = new AbortController();
        const left = flights.join("a", work, leaving.signal);
        leaving.abort(new Error("bye"));
        await assert.rejects(left, /bye/);
        runs[0]?.end.reject(new Error("nobody waits for this"));
        // An abort after the end concerns nobody either.
        const late = new AbortController();
        await flights.join("b", () => Promise.resolve("done"), late.signal);
        late.abort(new Error("too late"));
        // Node tells of them when all that was due has run.
        await setImmediate();
        assert.deepEqual(unhandled, []);
      } finally {
        process.off("unhandledRejection", note);
      }
    });
  });
}

describe("flights without a time limit", () => {
  test("are aborted when the last caller has gone", async () => {
    const flights = new Flights<string>();
    const { runs, work } = heldWork();
    const leaving = new AbortController();
    const left = [1, 2].map(() => flights.join("a", work, leaving.signal));
    leaving.abort(new Error("bye"));
    await Promise.all(left.map((each) => assert.rejects(each, /bye/)));
    assert.ok(runs[0]?.signal.reason instanceof CanceledError);
  });

  test("begin anew for a newcomer while what was aborted is still ending", async () => {
    const flights = new Flights<string>();
    const { runs, work } = heldWork();
    const leaving = new AbortController();
    const left = flights.join("a", work, leaving.signal);
    leaving.abort(new Error("bye"));
    await assert.rejects(left, /bye/);
    const newcomer = flights.join("a", work, patient);
    assert.equal(runs.length, 2);
    // The end of the old one takes nothing from the new one: whoever comes now joins that.
    runs[0]?.end.reject(new Error("aborted"));
    await setImmediate();
    const another = flights.join("a", work, patient);
    assert.equal(runs.length, 2);
    runs[1]?.end.resolve("new");
    assert.deepEqual(await Promise.all([newcomer, another]), ["new", "new"]);
  });
});

describe("flights with a time limit", () => {
  test("go on without callers, for one who comes again", async () => {
    const flights = new Flights<string>({ timeoutMs: 1_000_000 });
    const { runs, work } = heldWork();
    const leaving = new AbortController();
    const left = flights.join("a", work, leaving.signal);
    leaving.abort(new Error("bye"));
    await assert.rejects(left, /bye/);
    assert.equal(runs[0]?.signal.aborted, false);
    const back = flights.join("a", work, patient);
    runs[0]?.end.resolve("done");
    assert.equal(await back, "done");
    assert.equal(runs.length, 1);
  });

  test("are aborted when it has passed", async () => {
    const flights = new Flights<string>({ timeoutMs: 1 });
    const { promise: reason, resolve } = Promise.withResolvers<Error>();
    const work = (signal: AbortSignal) => {
      signal.addEventListener("abort", () => resolve(signal.reason));
      return endless(signal);
    };
    await assert.rejects(flights.join("a", work, patient), { name: "AbortError" });
    assert.equal((await reason).name, "TimeoutError");
  });

  test("begin anew for a newcomer after that, even if the work does not heed it", async () => {
    const flights = new Flights<string>({ timeoutMs: 1 });
    const { runs, work } = heldWork();
    const joined = flights.join("a", work, patient);
    await endless(runs[0]?.signal ?? patient).catch(() => undefined);
    assert.equal(await flights.join("a", () => Promise.resolve("new"), patient), "new");
    runs[0]?.end.resolve("late");
    assert.equal(await joined, "late");
  });
});
