import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  LayerActivity,
  type Layer as LayerProto,
  SnapshotterService,
} from "@oci-worker/api/ociworker/snapshotter";
import { fromConnectError } from "@oci-worker/errdefs/connect";

/** A layer that is read when somebody reads its files. Sizes are in bytes. */
export interface LazyLayer {
  readonly digest: string;
  readonly tocDigest: string;
  /** Image that it was first read from. */
  readonly reference: string;
  /** Names of the snapshots that show it. */
  readonly snapshots: readonly string[];
  /** Of its files, those that are the same counted once. */
  readonly contentBytes: number;
  /** How much of that is on disk, and how much has been checked since the start of the service. */
  readonly cachedBytes: number;
  readonly verifiedBytes: number;
  /** What has come over the network since then, compressed. */
  readonly fetchedBytes: number;
  readonly complete: boolean;
  /** What is fetched beside that which somebody waits for. */
  readonly activity: "none" | "prefetch" | "background";
  /** Host that has served it last. */
  readonly host?: string;
  /** Why something of it could not be read last, until something could again. */
  readonly failure?: string;
  readonly failedAt?: Date;
}

/** The lazy layers of an oci-snapshotter. */
export interface LazyLayerList {
  readonly layers: readonly LazyLayer[];
  /** How they are mounted; absent if its backend has none. */
  readonly mode?: string;
  /** Better ways, and why its host does not have them. */
  readonly passedOver: readonly { readonly mode: string; readonly obstacle: string }[];
}

const activities: Readonly<Record<LayerActivity, LazyLayer["activity"]>> = {
  [LayerActivity.UNSPECIFIED]: "none",
  [LayerActivity.NONE]: "none",
  [LayerActivity.PREFETCH]: "prefetch",
  [LayerActivity.BACKGROUND]: "background",
};

/**
 * Asks the snapshotter behind `transport` for its lazy layers.
 *
 * @returns undefined if it is not one of ours, and so does not tell.
 * @throws {UnavailableError} if it cannot be reached.
 */
export async function listLazyLayers(
  transport: Transport,
  signal?: AbortSignal,
): Promise<LazyLayerList | undefined> {
  try {
    const told = await createClient(SnapshotterService, transport).listLayers({}, signal && { signal });
    return {
      layers: told.layers.map(layerFromProto),
      ...(told.mode !== "" && { mode: told.mode }),
      passedOver: told.passedOver.map(({ mode, obstacle }) => ({ mode, obstacle })),
    };
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.Unimplemented) {
      return undefined;
    }
    throw fromConnectError(error);
  }
}

function layerFromProto(proto: LayerProto): LazyLayer {
  const { digest, tocDigest, reference, snapshots, complete, activity, host, failure, failedAt } = proto;
  return {
    digest,
    tocDigest,
    reference,
    snapshots,
    contentBytes: Number(proto.contentBytes),
    cachedBytes: Number(proto.cachedBytes),
    verifiedBytes: Number(proto.verifiedBytes),
    fetchedBytes: Number(proto.fetchedBytes),
    complete,
    activity: activities[activity] ?? "none",
    ...(host !== "" && { host }),
    ...(failure !== "" && { failure }),
    ...(failedAt && { failedAt: timestampDate(failedAt) }),
  };
}
