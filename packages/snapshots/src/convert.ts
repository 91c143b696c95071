import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { Mount as MountProto, MountSchema } from "@oci-worker/api/containerd/mount";
import {
  type Info as InfoProto,
  type InfoSchema,
  Kind as KindProto,
} from "@oci-worker/api/containerd/snapshots";
import { UnimplementedError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import type { Info, Kind } from "./snapshotter.ts";

const nanosPerSecond = 1_000_000_000n;

/** What is sent of a snapshot. */
export function infoToProto(info: Info): MessageInitShape<typeof InfoSchema> {
  return {
    name: info.name,
    parent: info.parent ?? "",
    kind: kindToProto(info.kind),
    createdAt: timeToProto(info.createdAtNs),
    updatedAt: timeToProto(info.updatedAtNs),
    labels: info.labels,
  };
}

/** What a snapshotter has sent of a snapshot. */
export function infoFromProto(info: InfoProto): Info {
  return {
    name: info.name,
    parent: info.parent === "" ? undefined : info.parent,
    kind: kindFromProto(info.kind),
    createdAtNs: timeFromProto(info.createdAt),
    updatedAtNs: timeFromProto(info.updatedAt),
    labels: info.labels,
  };
}

export function mountToProto({ type, source, options }: Mount): MessageInitShape<typeof MountSchema> {
  return { type, source, options: [...options] };
}

/** @throws {UnimplementedError} for a mount that is to be made below the place that its caller chooses. */
export function mountFromProto({ type, source, target, options }: MountProto): Mount {
  if (target !== "") {
    throw new UnimplementedError(
      `Cannot use mount of ${source}: it belongs at ${JSON.stringify(target)} below the others, want all at one place`,
    );
  }
  return { type, source, options };
}

export function kindToProto(kind: Kind): KindProto {
  switch (kind) {
    case "active":
      return KindProto.ACTIVE;
    case "view":
      return KindProto.VIEW;
    case "committed":
      return KindProto.COMMITTED;
  }
}

/** Clients of the field take a kind that they do not know for a committed snapshot; so do we. */
function kindFromProto(kind: KindProto): Kind {
  switch (kind) {
    case KindProto.ACTIVE:
      return "active";
    case KindProto.VIEW:
      return "view";
    default:
      return "committed";
  }
}

function timeToProto(ns: bigint): Timestamp {
  const remainder = ns % nanosPerSecond;
  // Before 1970 the seconds round down, so that the nanoseconds stay positive (google/protobuf/timestamp.proto).
  const nanos = remainder < 0n ? remainder + nanosPerSecond : remainder;
  return create(TimestampSchema, { seconds: (ns - nanos) / nanosPerSecond, nanos: Number(nanos) });
}

/** Go's clients write year 1 where they have no time; that is a time like any other here. */
function timeFromProto(time: Timestamp | undefined): bigint {
  return time === undefined ? 0n : time.seconds * nanosPerSecond + BigInt(time.nanos);
}
