import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { MountSchema } from "@oci-worker/api/containerd/mount";
import { InfoSchema } from "@oci-worker/api/containerd/snapshots";
import { UnimplementedError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { infoFromProto, infoToProto, mountFromProto } from "./convert.ts";
import type { Info } from "./snapshotter.ts";

const infos: fc.Arbitrary<Info> = fc.record(
  {
    name: fc.string({ minLength: 1 }),
    parent: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
    kind: fc.constantFrom("active", "view", "committed"),
    labels: fc
      .dictionary(fc.string(), fc.string(), { noNullPrototype: true })
      // The one key that protobuf-es cannot hold.
      .filter((labels) => !Object.hasOwn(labels, "__proto__")),
    createdAtNs: fc.bigInt(-62_135_596_800_000_000_000n, 253_402_300_799_999_999_999n),
    updatedAtNs: fc.bigInt(-62_135_596_800_000_000_000n, 253_402_300_799_999_999_999n),
  },
  { noNullPrototype: true },
);

describe("infoToProto", () => {
  test("says all that an info holds, to the nanosecond", () => {
    fc.assert(
      fc.property(infos, (info) => {
        const sent = toBinary(InfoSchema, create(InfoSchema, infoToProto(info)));
        assert.deepEqual(infoFromProto(fromBinary(InfoSchema, sent)), info);
      }),
    );
  });

  test("writes a time before 1970 with positive nanoseconds", () => {
    const info: Info = {
      name: "x",
      parent: undefined,
      kind: "view",
      labels: {},
      createdAtNs: -1n,
      updatedAtNs: 0n,
    };
    const { createdAt } = infoToProto(info);
    assert.equal(createdAt?.seconds, -1n);
    assert.equal(createdAt?.nanos, 999_999_999);
  });
});

describe("infoFromProto", () => {
  test("takes a kind that it does not know for committed, and Go's zero time for what it says", () => {
    const zero = { seconds: -62_135_596_800n, nanos: 0 };
    const info = infoFromProto(create(InfoSchema, { name: "x", kind: 0, createdAt: zero }));
    assert.equal(info.kind, "committed");
    assert.equal(info.createdAtNs, -62_135_596_800_000_000_000n);
    assert.equal(info.updatedAtNs, 0n);
  });
});

describe("mountFromProto", () => {
  test("refuses a mount with a place of its own, which would otherwise cover the others", () => {
    const mount = create(MountSchema, { type: "bind", source: "/x", target: "sub" });
    assert.throws(() => mountFromProto(mount), UnimplementedError);
  });
});
