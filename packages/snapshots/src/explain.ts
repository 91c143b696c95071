import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { SnapshotterService } from "@oci-worker/api/ociworker/snapshotter";
import { fromConnectError } from "@oci-worker/errdefs/connect";

/** What an oci-snapshotter knows of a snapshot beyond what any snapshotter tells. */
export interface SnapshotExplanation {
  /** Names of everything beneath it, the nearest first. */
  readonly ancestors: readonly string[];
  /** Its own directory; a view of another snapshot has none. */
  readonly directory?: string;
  /** Where its content is mounted now, by itself or beneath others, as far as the snapshotter can see. */
  readonly mountPoints: readonly string[];
  /** What a removal would be refused with now. */
  readonly removalObstacle?: string;
  /** Digest of the layer whose files it shows without anybody having unpacked them. */
  readonly lazyLayerDigest?: string;
  /** Why a client that asked for its layer without an unpack did not get that. */
  readonly lazyObstacle?: string;
}

/**
 * Asks the snapshotter behind `transport` what the snapshot `key` is made of.
 *
 * @returns undefined if it is not one of ours, and so does not tell.
 * @throws {NotFoundError} if there is no such snapshot.
 * @throws {UnavailableError} if it cannot be reached.
 */
export async function explainSnapshot(
  transport: Transport,
  key: string,
  signal?: AbortSignal,
): Promise<SnapshotExplanation | undefined> {
  try {
    const told = await createClient(SnapshotterService, transport).explain({ key }, signal && { signal });
    const { ancestors, directory, mountPoints, removalObstacle, lazyLayerDigest, lazyObstacle } = told;
    return {
      ancestors,
      ...(directory !== "" && { directory }),
      mountPoints,
      ...(removalObstacle !== "" && { removalObstacle }),
      ...(lazyLayerDigest !== "" && { lazyLayerDigest }),
      ...(lazyObstacle !== "" && { lazyObstacle }),
    };
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.Unimplemented) {
      return undefined;
    }
    throw fromConnectError(error);
  }
}
