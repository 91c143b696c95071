import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  Kind,
  type StatSnapshotRequest,
  type StatSnapshotResponseSchema,
} from "@oci-worker/api/containerd/snapshots";

/** What containerd is usually told of a snapshot, about 350 bytes on the wire. Made anew each time, as services do. */
export function stat({ key }: StatSnapshotRequest): MessageInitShape<typeof StatSnapshotResponseSchema> {
  const time = { seconds: 1_700_000_000n, nanos: 123_456_789 };
  return {
    info: {
      name: key,
      parent: "sha256:8d3ac3489996423f53d6087c81180006263b79f206d3fdec9e66f0e27ceb8759",
      kind: Kind.COMMITTED,
      createdAt: time,
      updatedAt: time,
      labels: {
        "containerd.io/snapshot.ref":
          "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1",
      },
    },
  };
}
