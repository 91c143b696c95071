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

/** Labels that BuildKit sets for the time of one call, with a random id at the end; those without it say the same. */
const temporary =
  /^containerd\.io\/snapshot\/(?:remote\/stargz\.(?:reference|digest|layers|session\.\d+)|stargz\/toc\.digest)\.[0-9a-z]+$/;

/** The names of those among `labels` that a client which was cut short has left behind. */
export function leftoverLabels(labels: Labels): string[] {
  return Object.keys(labels).filter((key) => temporary.test(key));
}
