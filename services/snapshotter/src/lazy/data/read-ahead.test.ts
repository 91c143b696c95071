import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AheadCache } from "./ahead-cache.ts";
import { ReadAhead } from "./read-ahead.ts";

const mebibyte = 2 ** 20;

describe("what is fetched around a read", () => {
  test("grows while reads stay together, up to a limit", () => {
    const ahead = new ReadAhead();
    ahead.around(0);
    const sizes = [1, 2, 3, 4, 5, 6].map((place) => {
      ahead.note(place * mebibyte, place * mebibyte + 1000);
      return ahead.around(place * mebibyte + 1_500_000);
    });
    assert.deepEqual(
      sizes.map((bytes) => bytes / 1024),
      [64, 128, 256, 512, 512, 512],
    );
  });

  test("shrinks where they do not", () => {
    const ahead = new ReadAhead();
    const sizes = [9, 3, 81, 27].map((place) => {
      const bytes = ahead.around(place * 10 * mebibyte);
      ahead.note(place * 10 * mebibyte, place * 10 * mebibyte + 1000);
      return bytes / 1024;
    });
    assert.deepEqual(sizes, [32, 16, 16, 16]);
  });
});

describe("members that came along", () => {
  test("are given once", () => {
    const cache = new AheadCache();
    cache.put(1, 2, Buffer.from("member"));
    assert.ok(cache.has(1, 2));
    assert.equal(cache.take(1, 3), undefined);
    assert.equal(cache.take(2, 2), undefined);
    assert.deepEqual(cache.take(1, 2), Buffer.from("member"));
    assert.equal(cache.take(1, 2), undefined);
  });

  test("make room for those that come later", () => {
    const cache = new AheadCache(100);
    for (const member of [1, 2, 3]) {
      cache.put(1, member, Buffer.alloc(40));
    }
    assert.deepEqual(
      [1, 2, 3].map((member) => cache.has(1, member)),
      [false, true, true],
    );
    cache.put(1, 2, Buffer.alloc(60));
    assert.deepEqual(
      [2, 3].map((member) => cache.has(1, member)),
      [true, true],
    );
    cache.put(1, 4, Buffer.alloc(101));
    assert.deepEqual(
      [2, 3, 4].map((member) => cache.has(1, member)),
      [false, false, false],
    );
  });
});
