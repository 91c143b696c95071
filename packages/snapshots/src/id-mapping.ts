import { InvalidArgumentError } from "@oci-worker/errdefs";
import { outsideID, parseIDMap } from "@oci-worker/mounts/id-map";

/** How user ids of a snapshot are shown on the host, `CONTAINER:HOST:SIZE[,...]`. Goes with {@link gidMappingLabel}. */
export const uidMappingLabel = "containerd.io/snapshot/uidmapping";

/** How group ids of a snapshot are shown on the host. */
export const gidMappingLabel = "containerd.io/snapshot/gidmapping";

/** What a pair of labels asks for: a snapshot for a container that runs in a user namespace. */
export interface IDMapping {
  /** The label's own text, which has been checked: digits, colons and commas. */
  readonly uids: string;
  readonly gids: string;
  /** Whom the container's root is on the host. */
  readonly root: { readonly uid: number; readonly gid: number };
}

/**
 * Checks a label that maps ids; any other label passes.
 *
 * Strictly, because its text becomes part of mount options, and a layer's annotations, which whoever made the image
 * wrote, become labels too.
 *
 * @throws {InvalidArgumentError} naming the label, if it is no map that the kernel takes or has nothing for id 0.
 */
export function checkIDMappingLabel(key: string, value: string): void {
  if (key === uidMappingLabel || key === gidMappingLabel) {
    hostRootOf(key, value);
  }
}

/**
 * The mapping that the labels of a snapshot ask for, or undefined if they ask for none.
 *
 * @throws {InvalidArgumentError} naming the label that is wrong, or missing beside the other one.
 */
export function idMappingOf(labels: Readonly<Record<string, string>>): IDMapping | undefined {
  const uids = labels[uidMappingLabel];
  const gids = labels[gidMappingLabel];
  if (!uids && !gids) {
    return undefined;
  }
  if (!uids || !gids) {
    const [there, missing] = uids ? [uidMappingLabel, gidMappingLabel] : [gidMappingLabel, uidMappingLabel];
    throw new InvalidArgumentError(`Cannot use label ${there}: ${missing} is missing, want both or none`);
  }
  const root = { uid: hostRootOf(uidMappingLabel, uids), gid: hostRootOf(gidMappingLabel, gids) };
  return { uids, gids, root };
}

/** The options by which a mounter is told to show other ids, as containerd's takes them since 2.0. */
export function idMapOptions(mapping: IDMapping | undefined): string[] {
  return mapping === undefined ? [] : [`uidmap=${mapping.uids}`, `gidmap=${mapping.gids}`];
}

function hostRootOf(label: string, text: string): number {
  const root = outsideID(parseIDMap(`label ${label}`, text), 0);
  if (root === undefined) {
    throw new InvalidArgumentError(
      `Cannot use label ${label} ${JSON.stringify(text.slice(0, 200))}: it has nothing for id 0, want the root of the container mapped`,
    );
  }
  return root;
}
