import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { pino } from "pino";
import { Pool, type PoolOptions } from "./pool.ts";

const patient = new AbortController().signal;

/** A pool of numbers, each made once, and what became of them. */
function numbers(more: Partial<PoolOptions<number>> = {}) {
  const released: number[] = [];
  const reached = new Map<number, () => void>();
  let made = 0;
  const pool = new Pool<number>({
    targetSize: 0,
    idleMs: 1_000_000,
    make: () => {
      made += 1;
      return Promise.resolve(made);
    },
    release: (item) => {
      released.push(item);
      reached.get(released.length)?.();
      return Promise.resolve();
    },
    log: pino({ level: "silent" }),
    ...more,
  });
  /** Resolves when so many have been released. */
  const untilReleased = (count: number) =>
    new Promise<void>((resolve) => {
      reached.set(count, resolve);
      if (released.length >= count) {
        resolve();
      }
    });
  return { pool, released, untilReleased, made: () => made };
}

describe("a pool", () => {
  test("is filled to its target, and gives out the one used last first", async () => {
    const { pool, released, made } = numbers({ targetSize: 3 });
    {
      await using filled = pool;
      filled.fill();
      const first = await filled.take(patient);
      await filled.put(first);
      assert.equal(await filled.take(patient), first);
      await filled.put(first);
    }
    assert.equal(made(), released.length);
    assert.equal(new Set(released).size, released.length);
  });

  test("makes its target ahead of need, those in use included", async () => {
    const all = Promise.withResolvers<void>();
    let made = 0;
    const { pool } = numbers({
      targetSize: 3,
      make: () => {
        made += 1;
        if (made === 3) {
          all.resolve();
        }
        return Promise.resolve(made);
      },
    });
    const used = await pool.take(patient);
    pool.fill();
    await all.promise;
    await pool.put(used);
    await pool[Symbol.asyncDispose]();
    assert.equal(made, 3);
  });

  test("never gives one to two at a time", async () => {
    const { pool } = numbers();
    const taken = await Promise.all([1, 2, 3].map(() => pool.take(patient)));
    assert.equal(new Set(taken).size, 3);
    await Promise.all(taken.map((item) => pool.put(item)));
    await pool[Symbol.asyncDispose]();
  });

  test("releases those beyond its target when they have lain idle, and keeps the others", async () => {
    const { pool, released, untilReleased } = numbers({ targetSize: 1, idleMs: 1 });
    const taken = await Promise.all([1, 2, 3].map(() => pool.take(patient)));
    for (const item of taken) {
      await pool.put(item);
    }
    // Its own timer does not keep the process alive.
    const keepAlive = setInterval(() => undefined, 1000);
    await untilReleased(2);
    clearInterval(keepAlive);
    assert.deepEqual(released, taken.slice(0, 2));
    assert.equal(await pool.take(patient), taken[2]);
    await pool.put(taken[2] ?? 0);
    await pool[Symbol.asyncDispose]();
  });

  test("makes another in place of one that must not be used again", async () => {
    const { pool, released } = numbers({ targetSize: 1 });
    const spoilt = await pool.take(patient);
    await pool.drop(spoilt);
    assert.deepEqual(released, [spoilt]);
    assert.notEqual(await pool.take(patient), spoilt);
    await pool[Symbol.asyncDispose]();
  });

  test("keeps what comes too late for who has asked", async () => {
    const slow = Promise.withResolvers<number>();
    const { pool, released } = numbers({ make: () => slow.promise });
    const controller = new AbortController();
    const taking = pool.take(controller.signal);
    controller.abort(new Error("not wanted any more"));
    await assert.rejects(taking, /not wanted any more/);
    slow.resolve(7);
    await pool[Symbol.asyncDispose]();
    assert.deepEqual(released, [7]);
  });

  test("tells of one that cannot be made, and makes the next one anew", async () => {
    let tries = 0;
    const { pool } = numbers({
      make: () => {
        tries += 1;
        return tries === 1 ? Promise.reject(new Error("no")) : Promise.resolve(tries);
      },
    });
    await assert.rejects(pool.take(patient), /no/);
    assert.equal(await pool.take(patient), 2);
  });

  test("releases what is put back after its end", async () => {
    const { pool, released } = numbers();
    const item = await pool.take(patient);
    await pool[Symbol.asyncDispose]();
    assert.deepEqual(released, []);
    await pool.put(item);
    assert.deepEqual(released, [item]);
  });
});
