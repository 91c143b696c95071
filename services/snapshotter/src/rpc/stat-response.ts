import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  InfoSchema,
  type StatSnapshotResponse,
  StatSnapshotResponseSchema,
} from "@oci-worker/api/containerd/snapshots";
import { infoToProto } from "@oci-worker/snapshots/convert";
import type { Info } from "@oci-worker/snapshots/snapshotter";

/** Responses that were made, for as long as somebody keeps the info that they tell of. */
const responses = new WeakMap<Info, StatSnapshotResponse>();

/**
 * The response to Stat that tells of `info`, which must not change.
 *
 * To encode an info takes longer than all else that we do for a Stat, and Stat is what clients call most: BuildKit and
 * CRI do so in loops, mostly for the same layers. So the info is encoded once, and put into the response as a field that
 * protobuf-es does not know: such fields are written as they are.
 */
export function statResponse(info: Info): StatSnapshotResponse {
  const known = responses.get(info);
  if (known !== undefined) {
    return known;
  }
  const bytes = toBinary(InfoSchema, create(InfoSchema, infoToProto(info)));
  const data = new BinaryWriter().bytes(bytes).finish();
  const response = create(StatSnapshotResponseSchema);
  response.$unknown = [
    { no: StatSnapshotResponseSchema.field.info.number, wireType: WireType.LengthDelimited, data },
  ];
  responses.set(info, response);
  return response;
}
