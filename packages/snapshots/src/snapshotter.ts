import type { Mount } from "@oci-worker/mounts/mount";
import type { LabelChange, Labels } from "./labels.ts";

/**
 * What a snapshot is good for.
 *
 * - `active`: can be mounted and written to. Made by prepare, ended by commit or remove.
 * - `view`: can be mounted, for reading only. Made by view, ended by remove.
 * - `committed`: cannot be mounted, can be the parent of others. Made by commit, ended by remove.
 */
export type Kind = "active" | "view" | "committed";

/** Everything that is known of a snapshot, save its mounts and its size. */
export interface Info {
  /** The name of a committed snapshot, the key of any other. */
  readonly name: string;
  /** Name of the committed snapshot beneath; undefined if it stands on an empty directory. */
  readonly parent: string | undefined;
  readonly kind: Kind;
  readonly labels: Labels;
  /** When prepare, view or commit made it, in nanoseconds since 1970, UTC. */
  readonly createdAtNs: bigint;
  /** When it was made or its labels last changed, whichever is later, in nanoseconds since 1970, UTC. */
  readonly updatedAtNs: bigint;
}

/** Disk use of one snapshot, its parents not counted. */
export interface Usage {
  /** Number of distinct inodes, the snapshot's top directory among them. */
  readonly inodes: bigint;
  /** Bytes that the file system has allocated for them, in whole blocks: not the lengths of the files. */
  readonly sizeBytes: bigint;
}

/**
 * Keeps stacks of directory trees: the layers of images, and the writable directories of containers.
 *
 * ## Words
 *
 * A snapshot is known by one string, and all strings live in one name space. For an active snapshot or a
 * view that string is called its *key*, for a committed one its *name*. Both are opaque: any text without a
 * NUL, slashes and dots included, which never becomes part of a path. A committed snapshot can be the
 * *parent* of others. A snapshot holds only what differs from its parent, or a whole tree; which of the two is
 * the implementation's affair, and its mounts hide it.
 *
 * ## Unpacking an image
 *
 * One round a layer, the lowest first:
 *
 * ```ts
 * const mounts = await snapshotter.prepare("extract-1", parent, {});
 * await using directory = await mountTemporarily(mounts, scratch);
 * await applyLayer(directory.path, layer);
 * await snapshotter.commit(chainID, "extract-1", {});
 * ```
 *
 * Names are usually chain IDs, so that a layer which two images share is one snapshot. Two unpackers that meet
 * are told by {@link AlreadyExistsError}, and the one that comes second removes its key.
 *
 * ## Running a container
 *
 * `prepare("container-7", chainID, {})` gives it a writable directory on top of the image, `mounts("container-7")`
 * tells the mounts again after a restart, `remove("container-7")` ends it. To look at an image without writing,
 * or to have a lower side to compare with, use `view` in the place of `prepare`.
 *
 * ## What may be relied on
 *
 * - What has been acknowledged survives a crash of the program and of the machine.
 * - A call that fails has changed nothing. One that is cancelled either finishes or has changed nothing.
 * - Of two calls that want the same key or name, exactly one wins.
 * - `remove` only takes the snapshot out of sight, at once; its bytes go later. Nobody waits for them but `cleanup`.
 * - Whoever may call may remove everything: give each client a snapshotter of its own, because garbage collectors
 *   delete what they do not know.
 *
 * Every method that waits takes a signal last, and fails with the signal's reason once that is aborted.
 */
export interface Snapshotter extends AsyncDisposable {
  /**
   * Describes the snapshot `key`, of whatever kind.
   *
   * @throws {NotFoundError} if there is no such snapshot.
   */
  stat(key: string, signal?: AbortSignal): Promise<Info>;

  /**
   * Changes the labels of the snapshot `key`, of whatever kind, and nothing else of it.
   *
   * @returns the snapshot as it is now.
   * @throws {NotFoundError} if there is no such snapshot.
   * @throws {InvalidArgumentError} if its labels would be larger than {@link checkLabels} allows.
   */
  update(key: string, change: LabelChange, signal?: AbortSignal): Promise<Info>;

  /**
   * Measures what the snapshot `key` alone takes up.
   *
   * A committed snapshot was measured when it was committed, a view takes up nothing, an active one is walked now;
   * files that vanish meanwhile are not counted.
   *
   * @throws {NotFoundError} if there is no such snapshot.
   */
  usage(key: string, signal?: AbortSignal): Promise<Usage>;

  /**
   * Tells once more how to mount the active snapshot or view `key`: the same list as when it was made.
   *
   * @throws {NotFoundError} if there is no such snapshot.
   * @throws {FailedPreconditionError} if it is committed; mount a view of it instead.
   */
  mounts(key: string, signal?: AbortSignal): Promise<Mount[]>;

  /**
   * Makes the active snapshot `key` on top of `parent`, or of an empty directory that everyone may read and its
   * owner write (0755). Labels are stored as they are; the parent's are not inherited.
   *
   * @returns the mounts that show the parent's content and capture what is changed; at least one, to be mounted in
   *   this order.
   * @throws {NotFoundError} if `parent` does not exist.
   * @throws {InvalidArgumentError} if `parent` is not committed, or `key` or a label cannot be stored.
   * @throws {AlreadyExistsError} if `key` is taken. A snapshotter that can have a layer without an unpack also says
   *   so when it has put the layer that the label `containerd.io/snapshot.ref` names into place: look for it with
   *   {@link walk}.
   */
  prepare(key: string, parent: string | undefined, labels: Labels, signal?: AbortSignal): Promise<Mount[]>;

  /**
   * Makes the view `key`, which shows `parent` and takes no changes: writing to it fails with EROFS.
   *
   * Fails as {@link prepare} does.
   */
  view(key: string, parent: string | undefined, labels: Labels, signal?: AbortSignal): Promise<Mount[]>;

  /**
   * Turns the active snapshot `key` into the committed snapshot `name`. The key is free afterwards; creation time
   * and labels are new, the active snapshot's own labels are dropped.
   *
   * Nobody may write to the snapshot's mounts any more: unmount them first.
   *
   * @param parent for a snapshot that was prepared on nothing: the committed snapshot to put it on now. For any
   *   other it may only repeat the parent it has.
   * @throws {NotFoundError} if `key` or `parent` does not exist.
   * @throws {AlreadyExistsError} if `name` is taken; `key` stays as it was.
   * @throws {FailedPreconditionError} if `key` is not active, or `parent` not committed.
   * @throws {InvalidArgumentError} if `parent` is another one than the snapshot has, or `name` or a label cannot be
   *   stored.
   * @throws {UnimplementedError} if this snapshotter cannot put a snapshot on a parent afterwards.
   */
  commit(name: string, key: string, labels: Labels, parent?: string, signal?: AbortSignal): Promise<void>;

  /**
   * Removes the snapshot `key`, of whatever kind. Waits for no file: the bytes go later.
   *
   * @throws {NotFoundError} if there is no such snapshot.
   * @throws {FailedPreconditionError} if another snapshot has it as its parent.
   */
  remove(key: string, signal?: AbortSignal): Promise<void>;

  /**
   * Every snapshot that matches one of `filters` (see `filters.ts`), in no promised order; all of them if there are
   * none. Other calls may be made between two steps, and a snapshot made or removed meanwhile may be met or not.
   *
   * @throws {InvalidArgumentError} if a filter cannot be read.
   */
  walk(filters: readonly string[], signal?: AbortSignal): AsyncIterable<Info>;

  /**
   * What {@link walk} tells, many at a time, none of them empty: of thousands of snapshots most of the time would go into the
   * steps.
   */
  pages(filters: readonly string[], signal?: AbortSignal): AsyncIterable<readonly Info[]>;

  /**
   * Deletes whatever removed snapshots and calls cut short have left on disk. Resolves when that is done.
   *
   * @throws {UnimplementedError} if this snapshotter has nothing to clean up.
   */
  cleanup(signal?: AbortSignal): Promise<void>;
}
