import { type StatSnapshotResponse, StatSnapshotResponseSchema } from "@oci-worker/api/containerd/snapshots";
import { keptResponse } from "@oci-worker/grpc/kept-response";
import { infoToProto } from "@oci-worker/snapshots/convert";
import type { Info } from "@oci-worker/snapshots/snapshotter";

/** Responses that were made, for as long as somebody keeps the info that they tell of. */
const responses = new WeakMap<Info, StatSnapshotResponse>();

/**
 * The response to Stat that tells of `info`, which must not change.
 *
 * To encode an info takes longer than all else that we do for a Stat, and Stat is what clients call most: BuildKit and
 * CRI do so in loops, mostly for the same layers.
 */
export function statResponse(info: Info): StatSnapshotResponse {
  const known = responses.get(info);
  if (known !== undefined) {
    return known;
  }
  const response = keptResponse(StatSnapshotResponseSchema, { info: infoToProto(info) });
  responses.set(info, response);
  return response;
}
