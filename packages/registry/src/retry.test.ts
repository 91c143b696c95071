import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UnavailableError } from "@oci-worker/errdefs";
import { TransientError } from "./http/errors.ts";
import { Retries, type Retry, realDelay } from "./retry.ts";

/** Retries that do not wait, and what they were told to wait. */
function recorded() {
  const waits: number[] = [];
  const told: Retry[] = [];
  const delay = (ms: number) => {
    waits.push(ms);
    return Promise.resolve();
  };
  return { waits, told, retries: new Retries(delay, (retry) => told.push(retry)) };
}

const broken = new TransientError("Cannot reach it: the connection broke");

describe("Retries", () => {
  test("waits about 1, 2, 4 and 8 seconds and then gives up", async () => {
    const { waits, retries } = recorded();
    const answers = [];
    for (let tries = 0; tries < 5; tries += 1) {
      answers.push(await retries.wait(broken, undefined));
    }
    assert.deepEqual(answers, [true, true, true, true, false]);
    assert.equal(waits.length, 4);
    for (const [index, pause] of [1000, 2000, 4000, 8000].entries()) {
      const wait = waits[index] ?? 0;
      assert.ok(wait >= pause * 0.8 && wait <= pause * 1.2, `${wait} for ${pause}`);
    }
  });

  test("begins anew after something went well", async () => {
    const { waits, retries } = recorded();
    await retries.wait(broken, undefined);
    await retries.wait(broken, undefined);
    retries.reset();
    await retries.wait(broken, undefined);
    assert.ok((waits[2] ?? 0) <= 1200);
  });

  test("does not wait for what will not pass", async () => {
    const { waits, retries } = recorded();
    assert.equal(await retries.wait(new UnavailableError("it refuses connections"), undefined), false);
    assert.equal(await retries.wait(new TypeError("bug"), undefined), false);
    assert.deepEqual(waits, []);
  });

  test("waits as long as the server asks, and not at all if it asks for too much", async () => {
    const { waits, told, retries } = recorded();
    assert.equal(await retries.wait(new TransientError("busy", { retryAfterMs: 30_000 }), undefined), true);
    assert.equal(
      await retries.wait(new TransientError("busy", { retryAfterMs: 3_600_000 }), undefined),
      false,
    );
    assert.deepEqual(waits, [30_000]);
    assert.deepEqual(told, [{ reason: "busy", delayMs: 30_000 }]);
  });

  test("a wait ends when the caller does", async () => {
    const retries = new Retries(realDelay, undefined);
    const abort = new AbortController();
    const waiting = retries.wait(broken, abort.signal);
    abort.abort();
    await assert.rejects(waiting, { name: "AbortError" });
  });
});
