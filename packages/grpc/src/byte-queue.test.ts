import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { array, assert as assertProperty, property, uint8Array } from "fast-check";
import { ByteQueue } from "./byte-queue.ts";

describe("ByteQueue", () => {
  test("gives back what was put in, in order", () => {
    void assertProperty(
      property(array(uint8Array({ maxLength: 2000 })), (pieces) => {
        const queue = new ByteQueue();
        for (const piece of pieces) {
          queue.push(Buffer.from(piece));
        }
        const all = Buffer.concat(pieces);
        assert.equal(queue.length, all.length);
        const first = queue.shift() ?? Buffer.alloc(0);
        assert.deepEqual(Buffer.concat([first, queue.takeAll()]), all);
        assert.equal(queue.length, 0);
      }),
    );
  });

  test("keeps few pieces of many small ones, and no large read for the sake of a byte", () => {
    const queue = new ByteQueue();
    const read = Buffer.alloc(64 * 1024);
    for (let offset = 0; offset < 10_000; offset += 1) {
      queue.push(read.subarray(offset, offset + 1));
    }
    let pieces = 0;
    for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
      assert(piece.buffer !== read.buffer);
      pieces += 1;
    }
    assert.equal(pieces, Math.ceil(10_000 / 1024));
  });
});
