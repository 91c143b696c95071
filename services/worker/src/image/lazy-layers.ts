import { AlreadyExistsError, NotFoundError } from "@oci-worker/errdefs";
import type { ChainID } from "@oci-worker/oci/chain-id";
import type { ImageLayer } from "@oci-worker/oci/manifest";
import type { Labels } from "@oci-worker/snapshots/labels";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import { newId } from "../new-id.ts";

/** Names the layer that a snapshot is to become (containerd, core/snapshots, LabelSnapshotRef). */
export const targetLabel = "containerd.io/snapshot.ref";

/** What a snapshotter that reads layers lazily is told of one (stargz-snapshotter, fs/source). */
const labelPrefix = "containerd.io/snapshot/remote/stargz.";
const tocDigestLabel = "containerd.io/snapshot/stargz/toc.digest";

/** containerd's limit for key and value of a label together, in bytes. */
const maxLabelBytes = 4096;

/** A layer of an image, to be put in place. */
export interface LazyLayer {
  /** Of the snapshot that it is to become. */
  readonly name: ChainID;
  readonly parent: ChainID | undefined;
  /** The layer, and those above it. */
  readonly layers: readonly ImageLayer[];
  /** Of the image, by which the resolver finds it and the sessions that want it. */
  readonly reference: string;
}

/**
 * Asks the snapshotter to put a layer in place without an unpack, for its files to be fetched when somebody reads them.
 *
 * @returns whether it has. If not, the layer has to be unpacked.
 */
export async function putInPlace(
  layer: LazyLayer,
  snapshotter: Snapshotter,
  log: Logger,
  signal: AbortSignal,
): Promise<boolean> {
  const { name, parent } = layer;
  const key = `lazy-${newId()} ${name}`;
  try {
    await snapshotter.prepare(key, parent, labelsFor(layer), signal);
  } catch (error) {
    if (error instanceof AlreadyExistsError) {
      return await isThere(snapshotter, name, signal);
    }
    throw error;
  }
  // It would have the layer unpacked into this one: that is begun anew, with its bytes at hand.
  await snapshotter.remove(key);
  log.debug({ layer: layer.layers[0]?.blob.digest, reference: layer.reference }, "layer is not read lazily");
  return false;
}

function labelsFor({ name, layers, reference }: LazyLayer): Labels {
  const [layer] = layers;
  const tocDigest = layer?.blob.annotations?.[tocDigestLabel];
  return {
    [targetLabel]: name,
    [`${labelPrefix}reference`]: reference,
    [`${labelPrefix}digest`]: layer?.blob.digest ?? "",
    [`${labelPrefix}layers`]: listWithin(
      layers.map(({ blob }) => blob.digest),
      maxLabelBytes - Buffer.byteLength(`${labelPrefix}layers`),
    ),
    ...(tocDigest !== undefined && { [tocDigestLabel]: tocDigest }),
  };
}

/** As many of `items` as have room, with commas between them. */
function listWithin(items: readonly string[], maxBytes: number): string {
  let list = "";
  for (const item of items) {
    const longer = list === "" ? item : `${list},${item}`;
    if (Buffer.byteLength(longer) > maxBytes) {
      break;
    }
    list = longer;
  }
  return list;
}

async function isThere(snapshotter: Snapshotter, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await snapshotter.stat(name, signal)).kind === "committed";
  } catch (error) {
    if (error instanceof NotFoundError) {
      return false;
    }
    throw error;
  }
}
