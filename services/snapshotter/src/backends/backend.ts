import type { Mount } from "@oci-worker/mounts/mount";

/** The backends that there are. */
export type BackendName = "native" | "overlayfs";

/** Why a backend cannot run on this host. */
export interface Obstacle {
  readonly obstacle: string;
}

/** Finds out whether a backend can run on `root`, an existing directory, and makes it if so. */
export type Probe = (root: string) => Promise<Backend | Obstacle>;

/** What a snapshot is made of, for as long as it can be mounted. */
export type MountableKind = "active" | "view";

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
   * Whether a directory from the store of spare ones, with the content of an active snapshot that belongs to us and
   * that nobody has written to, is what this snapshot needs.
   */
  isSpareEnough(kind: MountableKind, parentContent: string | undefined): boolean;

  /**
   * Makes the content of a new snapshot in `directory`, which is empty.
   *
   * @param parentContent content directory of the parent; undefined for none.
   */
  fill(
    directory: string,
    kind: MountableKind,
    parentContent: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void>;

  /**
   * The mounts that show a snapshot: decided from its place in the chain alone.
   *
   * @param parents directories of the ancestors, the nearest first.
   */
  mounts(kind: MountableKind, directory: string, parents: readonly string[]): Mount[];
}

/** Where in the directory of a snapshot its content is. */
export function contentOf(directory: string): string {
  return `${directory}/fs`;
}
