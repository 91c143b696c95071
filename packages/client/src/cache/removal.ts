import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Removal } from "@oci-worker/api/ociworker/worker";

/** A record that is not in the cache of an oci-worker any more, and why. */
export interface RemovedRecord {
  readonly id: string;
  readonly type: string;
  readonly description: string;
  readonly sizeBytes: number;
  readonly removedAt: Date;
  /** Number of the rule of garbage collection that covered it, from 1 on; undefined if a client has asked for it. */
  readonly rule: number | undefined;
  /** For people: why that covered it. */
  readonly why: string;
}

export function removedRecordOf({
  id,
  type,
  description,
  sizeBytes,
  removedAt,
  rule,
  why,
}: Removal): RemovedRecord {
  return {
    id,
    type,
    description,
    sizeBytes: Number(sizeBytes),
    removedAt: removedAt === undefined ? new Date(0) : timestampDate(removedAt),
    rule: rule === 0 ? undefined : rule,
    why,
  };
}
