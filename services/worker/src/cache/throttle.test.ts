import assert from "node:assert/strict";
import { test } from "node:test";
import { Throttle } from "./throttle.ts";

const minute = 60_000;

test("a throttle runs at once, then no sooner than an interval later, however often it is asked", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let runs = 0;
  let counts = true;
  let running = Promise.withResolvers<void>();
  using throttle = new Throttle(minute, async () => {
    runs += 1;
    await running.promise;
    return counts;
  });
  const tick = async (ms: number) => {
    context.mock.timers.tick(ms);
    await Promise.resolve();
  };
  const endRun = async () => {
    running.resolve();
    running = Promise.withResolvers();
    await new Promise((resolve) => setImmediate(resolve));
  };
  throttle.request(1000);
  throttle.request(1000);
  await tick(999);
  assert.equal(runs, 0);
  await tick(1);
  assert.equal(runs, 1);
  throttle.request(1000);
  throttle.request(1000);
  await tick(10 * minute);
  assert.equal(runs, 1, "never two at a time");
  await endRun();
  await tick(minute - 1);
  assert.equal(runs, 1);
  await tick(1);
  assert.equal(runs, 2, "what was asked for during the first run");
  await endRun();
  await tick(10 * minute);
  assert.equal(runs, 2, "nothing more was asked for");
  counts = false;
  for (const expected of [3, 4]) {
    throttle.request(1000);
    await tick(1000);
    assert.equal(runs, expected, "a run that had nothing to do does not count");
    await endRun();
  }
  throttle.request(1000);
  throttle[Symbol.dispose]();
  throttle.request(0);
  await tick(10 * minute);
  assert.equal(runs, 4);
});
