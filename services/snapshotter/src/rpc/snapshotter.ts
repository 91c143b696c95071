import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  CandidateState,
  LayerActivity,
  type SnapshotterService,
} from "@oci-worker/api/ociworker/snapshotter";
import { version } from "@oci-worker/daemon/version";
import { mountToProto } from "@oci-worker/snapshots/convert";
import type { Candidate, Inspector } from "../backends/inspector.ts";
import type { LayerStatus } from "../lazy/lazy-layers.ts";

const states = {
  chosen: CandidateState.CHOSEN,
  "passed over": CandidateState.PASSED_OVER,
  "not tried": CandidateState.NOT_TRIED,
} as const satisfies Record<Candidate["state"], CandidateState>;

const activities = {
  none: LayerActivity.NONE,
  prefetch: LayerActivity.PREFETCH,
  background: LayerActivity.BACKGROUND,
} as const satisfies Record<LayerStatus["activity"], LayerActivity>;

/** Serves ociworker.snapshotter.v1.SnapshotterService from `inspector`. */
export function snapshotterService(inspector: Inspector): ServiceImpl<typeof SnapshotterService> {
  return {
    async describe() {
      const { backend, candidates, snapshots, owner = "", lazy, ...description } = inspector.describe();
      return {
        ...description,
        backend: backend.name,
        canRebase: backend.canRebase,
        idMapObstacle: backend.idMapObstacle ?? "",
        mountOptions: [...backend.mountOptions],
        owner,
        lazyMode: lazy?.mode ?? "",
        lazyPassedOver: [...(lazy?.passedOver ?? [])],
        candidates: candidates.map(({ state, obstacle = "", ...candidate }) => ({
          ...candidate,
          state: states[state],
          obstacle,
        })),
        snapshots,
        version,
        processId: BigInt(process.pid),
      };
    },

    async explain({ key }) {
      const explained = await inspector.explain(key);
      const { directory = "", removalObstacle = "", lazy, mounts, ...explanation } = explained;
      return {
        ...explanation,
        ancestors: [...explanation.ancestors],
        mountPoints: [...explanation.mountPoints],
        directory,
        removalObstacle,
        lazyLayerDigest: lazy !== undefined && "digest" in lazy ? lazy.digest : "",
        lazyObstacle: lazy !== undefined && "obstacle" in lazy ? lazy.obstacle : "",
        mounts: mounts.map(mountToProto),
      };
    },

    async listLayers() {
      const { layers, mode, passedOver } = await inspector.layers();
      return {
        mode,
        passedOver: [...passedOver],
        layers: layers.map(({ reference, host = "", failure, isComplete, activity, ...layer }) => ({
          digest: layer.digest,
          tocDigest: layer.tocDigest,
          reference,
          snapshots: [...layer.snapshots],
          contentBytes: BigInt(layer.contentBytes),
          cachedBytes: BigInt(layer.cachedBytes),
          verifiedBytes: BigInt(layer.verifiedBytes),
          fetchedBytes: BigInt(layer.fetchedBytes),
          complete: isComplete,
          activity: activities[activity],
          host,
          failure: failure?.message ?? "",
          ...(failure && { failedAt: timestampFromMs(failure.atMs) }),
        })),
      };
    },
  };
}
