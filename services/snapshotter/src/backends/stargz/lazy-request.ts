import { type Labels, snapshotRefLabel } from "@oci-worker/snapshots/labels";

/** Marks a snapshot that nobody has unpacked; clients look for it. stargz-snapshotter's name and value. */
export const remoteLabel = "containerd.io/snapshot/remote";
export const remoteLabelValue = "remote snapshot";

/** What labels that say where a layer is start with: those of stargz-snapshotter and BuildKit, and containerd's own. */
const aboutSources = ["containerd.io/snapshot/remote/stargz.", "containerd.io/snapshot/cri."];

/**
 * The name under which a client that prepares a snapshot with these `labels` will look for the layer, if it can be put
 * there without an unpack; undefined if the client does not ask for that, or does not say where the layer is.
 */
export function lazyTargetOf(labels: Labels): string | undefined {
  const target = labels[snapshotRefLabel] ?? "";
  const saysWhere = Object.keys(labels).some((key) => aboutSources.some((prefix) => key.startsWith(prefix)));
  return target !== "" && saysWhere ? target : undefined;
}
