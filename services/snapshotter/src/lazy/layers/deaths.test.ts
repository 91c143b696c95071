import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Deaths } from "./deaths.ts";

describe("Deaths", () => {
  test("are chance as long as they are few, and again when they are long ago", () => {
    const deaths = new Deaths({ tooMany: 3, windowMs: 1000, refusalMs: 500 });
    assert.equal(deaths.note(0), undefined);
    assert.equal(deaths.note(10), undefined);
    assert.equal(deaths.note(20), 520);
    assert.equal(deaths.note(600), 1100);
    assert.equal(deaths.note(1599), undefined);
    assert.equal(deaths.note(1600), undefined);
    assert.equal(deaths.note(1601), 2101);
  });
});
