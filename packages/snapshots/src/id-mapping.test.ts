import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { gidMappingLabel, idMapOptions, idMappingOf, uidMappingLabel } from "./id-mapping.ts";
import { changeLabels, checkLabels } from "./labels.ts";

describe("idMappingOf", () => {
  test("is nothing for labels that ask for none, an empty value included", () => {
    assert.equal(idMappingOf({}), undefined);
    assert.equal(idMappingOf({ [uidMappingLabel]: "", other: "1" }), undefined);
    assert.deepEqual(idMapOptions(undefined), []);
  });

  test("tells whom the root of the container is on the host, whichever range has it", () => {
    const mapping = idMappingOf({
      [uidMappingLabel]: "1:200000:65535,0:1000:1",
      [gidMappingLabel]: "0:100000:65536",
    });
    assert.deepEqual(mapping?.root, { uid: 1000, gid: 100_000 });
    assert.deepEqual(idMapOptions(mapping), ["uidmap=1:200000:65535,0:1000:1", "gidmap=0:100000:65536"]);
  });

  for (const [there, missing] of [
    [uidMappingLabel, gidMappingLabel],
    [gidMappingLabel, uidMappingLabel],
  ] as const) {
    test(`refuses ${there} alone`, () => {
      assert.throws(
        () => idMappingOf({ [there]: "0:1:1" }),
        (error) => error instanceof InvalidArgumentError && error.message.includes(`${missing} is missing`),
      );
    });
  }
});

describe("checkLabels", () => {
  for (const label of [uidMappingLabel, gidMappingLabel]) {
    for (const text of ["0:1", "0:1:1,rw", "1:1:1"]) {
      test(`refuses ${label} ${text}, wherever labels come from`, () => {
        const namesLabel = (error: unknown) =>
          error instanceof InvalidArgumentError && error.message.includes(label);
        assert.throws(() => checkLabels({ [label]: text }), namesLabel);
        assert.throws(() => changeLabels({}, { merge: { [label]: text } }), namesLabel);
      });
    }
  }
});
