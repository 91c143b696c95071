import type { Mount } from "@oci-worker/mounts/mount";
import type { Labels } from "@oci-worker/snapshots/labels";

/** The backends that there are. */
export const backendNames = ["native", "overlayfs", "fuse-overlayfs", "stargz"] as const;

export type BackendName = (typeof backendNames)[number];

/** Why a backend cannot run on this host. */
export interface Obstacle {
  readonly obstacle: string;
}

/** Finds out whether a backend can run on `root`, an existing directory, and makes it if so. */
export type Probe = (root: string) => Promise<Backend | Obstacle>;

/** What a snapshot is made of, for as long as it can be mounted. */
export type MountableKind = "active" | "view";

/** What the content of a new snapshot is made from. */
export interface NewContent {
  readonly kind: MountableKind;
  /** Content directory of the parent; undefined for none. */
  readonly parentContent: string | undefined;
  readonly labels: Labels;
}

/** What the mounts of a snapshot are decided from. */
export interface Mountable {
  readonly kind: MountableKind;
  /** Directory of the snapshot itself; a view of another one has none, and needs none. */
  readonly directory: string;
  /** Directories of the ancestors, the nearest first. */
  readonly parents: readonly string[];
  readonly labels: Labels;
}

/**
 * What tells one way of keeping snapshots from another. Everything else, from staging to clean-up, is the
 * `DirectoryStore`'s.
 *
 * Each snapshot has a directory of its own, save a view of another one. Its content, which may be the whole tree or
 * what differs from the parent, is in `fs` below that ({@link contentOf}).
 */
export interface Backend {
  readonly name: BackendName;

  /** Whether a snapshot that was prepared on nothing may be put on a parent when it is committed. */
  readonly canRebase: boolean;

  /**
   * Why this host cannot show a snapshot with other ids than it has on disk, as the labels of
   * `@oci-worker/snapshots/id-mapping` ask for; undefined if it can.
   */
  readonly idMapObstacle: string | undefined;

  /** Options of every overlay mount besides the directories: ours, and over them the operator's. */
  readonly mountOptions: readonly string[];

  /**
   * Whether a directory from the store of spare ones, with the content of an active snapshot that belongs to us and
   * that nobody has written to, is what this snapshot needs.
   */
  isSpareEnough(content: NewContent): boolean;

  /** Makes the content of a new snapshot in `directory`, which is empty. */
  fill(directory: string, content: NewContent, signal: AbortSignal | undefined): Promise<void>;

  /** Labels by which a snapshot is described besides its own, which are not stored; undefined for none. */
  labelsOf(directory: string): Labels | undefined;

  /** The mounts that show a snapshot: decided from `snapshot` alone, so that they are the same each time. */
  mounts(snapshot: Mountable): Mount[];
}

/** Where in the directory of a snapshot its content is. */
export function contentOf(directory: string): string {
  return `${directory}/fs`;
}
