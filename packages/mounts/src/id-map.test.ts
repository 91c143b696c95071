import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { outsideID, parseIDMap } from "./id-map.ts";

describe("parseIDMap", () => {
  test("reads ranges, up to the last id that there is", () => {
    assert.deepEqual(parseIDMap("label x", "0:100000:65536,65536:0:1,70000:4294967293:1"), [
      { inside: 0, outside: 100_000, size: 65_536 },
      { inside: 65_536, outside: 0, size: 1 },
      { inside: 70_000, outside: 4_294_967_293, size: 1 },
    ]);
    assert.equal(parseIDMap("label x", "0:1:4294967294")[0]?.size, 4_294_967_294);
    assert.equal(
      parseIDMap("label x", Array.from({ length: 340 }, (_, each) => `${each}:${each}:1`).join()).length,
      340,
    );
  });

  const wrong = [
    "",
    "0",
    "0:1",
    "0:1:1:1",
    "0:1:1,",
    ",0:1:1",
    "0:1:1;2:3:1",
    " 0:1:1",
    "0:1:1\n",
    "-1:1:1",
    "+0:1:1",
    "0x0:1:1",
    "0:1:1e3",
    "٠:1:1",
    "0:1:1,upperdir=/etc",
    "0:1:0",
    "4294967295:1:1",
    "0:4294967295:1",
    "1:0:4294967295",
    "0:0:4294967296",
    "0:99999999999:1",
    "0:100:10,5:200:10",
    "0:100:10,50:109:10",
    Array.from({ length: 341 }, (_, each) => `${each}:${each}:1`).join(),
    Array.from({ length: 200 }, (_, each) => `${1_000_000_000 + each}:${each}:1000000000`).join(),
  ];
  for (const text of wrong) {
    test(`refuses ${JSON.stringify(text.slice(0, 40))}, and names what holds it`, () => {
      assert.throws(
        () => parseIDMap("label x", text),
        (error) => error instanceof InvalidArgumentError && error.message.startsWith("Cannot use label x"),
      );
    });
  }

  test("takes nothing that another reader could take for a second option", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseIDMap("label x", text);
        } catch (error) {
          assert(error instanceof InvalidArgumentError);
          return;
        }
        assert.match(text, /^[0-9:,]+$/);
      }),
    );
  });
});

describe("outsideID", () => {
  const map = parseIDMap("label x", "0:100000:10,20:5:2");
  const cases = [
    [0, 100_000],
    [9, 100_009],
    [10, undefined],
    [20, 5],
    [21, 6],
    [22, undefined],
  ] as const;
  for (const [inside, outside] of cases) {
    test(`shows ${inside} as ${outside ?? "nothing"}`, () => {
      assert.equal(outsideID(map, inside), outside);
    });
  }
});
