import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { CandidateState, SnapshotterService } from "@oci-worker/api/ociworker/snapshotter";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import type { LazyLayerList } from "./lazy-layers.ts";

/** An oci-snapshotter as it runs. */
export interface SnapshotterDescription {
  readonly backend: string;
  /** What its operator has asked for: a backend, or auto. */
  readonly wanted: string;
  /** Why the backend was taken. */
  readonly reason: string;
  /** In the order in which auto prefers them; the obstacle is why one was passed over. */
  readonly candidates: readonly {
    readonly backend: string;
    readonly state: "chosen" | "passed over" | "not tried";
    readonly obstacle?: string;
  }[];
  readonly root: string;
  readonly version: string;
  readonly processID: number;
  readonly canRebase: boolean;
  /** Why it cannot show snapshots with mapped ids; absent if it can. */
  readonly idMapObstacle?: string;
  /** Options of every overlay mount besides the directories. */
  readonly mountOptions: readonly string[];
  /** Whether a commit waits until the files of the snapshot are on disk. */
  readonly syncOnCommit: boolean;
  /** Whether snapshots are described with the path of their content. */
  readonly upperdirLabel: boolean;
  /** Whose the snapshots are, by that client's name for the snapshotter; absent while nobody has made any. */
  readonly owner?: string;
  /** How it mounts lazy layers; absent if its backend has none. */
  readonly lazyMode?: string;
  /** Better ways to mount them, and why its host does not have them. */
  readonly lazyPassedOver: LazyLayerList["passedOver"];
  readonly snapshots: { readonly active: number; readonly view: number; readonly committed: number };
}

/**
 * Asks the snapshotter behind `transport` which backend it runs on, and why.
 *
 * @returns undefined if it is not one of ours, and so does not tell.
 * @throws {UnavailableError} if it cannot be reached.
 */
export async function describeSnapshotter(
  transport: Transport,
  signal?: AbortSignal,
): Promise<SnapshotterDescription | undefined> {
  try {
    const told = await createClient(SnapshotterService, transport).describe({}, signal && { signal });
    const { backend, wanted, reason, root, version, canRebase, idMapObstacle, snapshots, owner } = told;
    return {
      backend,
      wanted,
      reason,
      candidates: told.candidates.map(({ state, obstacle, ...candidate }) => ({
        backend: candidate.backend,
        state: stateOf(state),
        ...(obstacle !== "" && { obstacle }),
      })),
      root,
      version,
      processID: Number(told.processId),
      canRebase,
      ...(idMapObstacle !== "" && { idMapObstacle }),
      mountOptions: told.mountOptions,
      syncOnCommit: told.syncOnCommit,
      upperdirLabel: told.upperdirLabel,
      ...(owner !== "" && { owner }),
      ...(told.lazyMode !== "" && { lazyMode: told.lazyMode }),
      lazyPassedOver: told.lazyPassedOver.map(({ mode, obstacle }) => ({ mode, obstacle })),
      snapshots: {
        active: Number(snapshots?.active ?? 0n),
        view: Number(snapshots?.view ?? 0n),
        committed: Number(snapshots?.committed ?? 0n),
      },
    };
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.Unimplemented) {
      return undefined;
    }
    throw error instanceof ConnectError ? fromConnectError(error) : error;
  }
}

function stateOf(state: CandidateState): "chosen" | "passed over" | "not tried" {
  switch (state) {
    case CandidateState.CHOSEN:
      return "chosen";
    case CandidateState.PASSED_OVER:
      return "passed over";
    default:
      return "not tried";
  }
}
