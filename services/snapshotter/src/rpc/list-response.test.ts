import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ListSnapshotsResponseSchema } from "@oci-worker/api/containerd/snapshots";
import { keptEnvelope } from "@oci-worker/grpc/kept-response";
import { infoToProto } from "@oci-worker/snapshots/convert";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import {
  array,
  assert as assertProperty,
  bigInt,
  constantFrom,
  dictionary,
  property,
  record,
  string,
} from "fast-check";
import { listResponse } from "./list-response.ts";

/** Of an envelope of gRPC: what is before the message. */
const prefixBytes = 5;

/** Texts of every length of a length, and of characters of one byte to four. */
const texts = string({ unit: "binary", maxLength: 200 });
const times = bigInt({ min: -1n, max: 2n ** 62n });
const someInfo = record({
  name: texts,
  parent: texts.map((text) => text || undefined),
  kind: constantFrom("active" as const, "view" as const, "committed" as const),
  createdAtNs: times,
  updatedAtNs: times,
  labels: dictionary(texts, texts, { maxKeys: 4, noNullPrototype: true }),
});

/** Asserts that a client reads of the response what it would read of a message. */
function assertAsMessage(infos: readonly Info[]): void {
  const response = listResponse(infos);
  const sent =
    keptEnvelope(response)?.subarray(prefixBytes) ?? toBinary(ListSnapshotsResponseSchema, response);
  const message = create(ListSnapshotsResponseSchema, { info: infos.map(infoToProto) });
  assert.deepEqual(
    fromBinary(ListSnapshotsResponseSchema, sent),
    fromBinary(ListSnapshotsResponseSchema, toBinary(ListSnapshotsResponseSchema, message)),
  );
}

test("an info is on the wire what a message of it would be", () => {
  void assertProperty(property(array(someInfo, { maxLength: 5 }), assertAsMessage));
});

test("an info with more text than two bytes of a length tell of is, too", () => {
  const labels = { long: "ä€😀".repeat(20_000), "": "" };
  const times = { createdAtNs: 0n, updatedAtNs: 999_999_999n };
  const info: Info = { name: "n", parent: "p".repeat(127), kind: "view", labels, ...times };
  assertAsMessage([info, info]);
});
