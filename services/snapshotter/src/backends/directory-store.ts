import { setImmediate } from "node:timers/promises";
import { FailedPreconditionError, NotFoundError, UnimplementedError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import { parseFilters } from "@oci-worker/snapshots/filters";
import { gidMappingLabel, idMappingOf, uidMappingLabel } from "@oci-worker/snapshots/id-mapping";
import type { LabelChange, Labels } from "@oci-worker/snapshots/labels";
import type { Info, Snapshotter, Usage } from "@oci-worker/snapshots/snapshotter";
import { walkPages } from "@oci-worker/snapshots/walk-pages";
import type { Logger } from "pino";
import { explainHostFailure } from "../host-failure.ts";
import { quote } from "../metastore/key.ts";
import type { Metastore } from "../metastore/metastore.ts";
import type { SnapshotRecord } from "../metastore/record.ts";
import { checkCommit, checkNew, type NewSnapshot } from "../metastore/rules.ts";
import type { OwnerRecord } from "../ownership/ownership.ts";
import { measureTree } from "../trees/measure-tree.ts";
import type { Trees } from "../trees/trees.ts";
import { type Backend, type BackendName, contentOf, type MountableKind } from "./backend.ts";
import type { Choice } from "./choose.ts";
import { Inspector } from "./inspector.ts";
import { hasDirectory, type SnapshotDirectories } from "./snapshot-directories.ts";
import type { RemoteSnapshots } from "./stargz/remote-snapshots.ts";

export interface DirectoryStoreOptions {
  readonly metastore: Metastore;
  readonly directories: SnapshotDirectories;
  readonly root: string;
  readonly choice: Choice;
  readonly trees: Trees;
  /** What puts layers into place that nobody has to unpack; undefined: all are unpacked. */
  readonly remote: RemoteSnapshots | undefined;
  /** Whether a commit waits until everything that was written to the snapshot is on disk. */
  readonly syncOnCommit: boolean;
  readonly log: Logger;
  /** Disposed of with the store: all of the above. */
  readonly owned: AsyncDisposable;
}

/** A tree of so few entries is measured at once; handing it to another thread would take longer. */
const maxEntriesInline = 100;

const recordsPerPage = 100;

/**
 * A snapshotter that keeps each snapshot in a directory of its own: the contract, spoken in terms of the metastore,
 * the directories and what the backend makes of them.
 */
export class DirectoryStore implements Snapshotter {
  readonly #options: DirectoryStoreOptions;
  readonly #metastore: Metastore;
  readonly #backend: Backend;
  readonly #directories: SnapshotDirectories;

  constructor(options: DirectoryStoreOptions) {
    this.#options = options;
    this.#metastore = options.metastore;
    this.#backend = options.choice.backend;
    this.#directories = options.directories;
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#options.owned[Symbol.asyncDispose]();
  }

  /** The name of the backend that it runs on. */
  get backend(): BackendName {
    return this.#backend.name;
  }

  /** What says why it is as it is. */
  get inspector(): Inspector {
    return new Inspector({ ...this.#options, mounts: (key) => this.mounts(key) });
  }

  /** Where it is remembered whose the snapshots are. */
  get ownerRecord(): OwnerRecord {
    return this.#metastore;
  }

  async stat(key: string): Promise<Info> {
    return this.#describe(this.#find("stat", key));
  }

  async update(key: string, change: LabelChange): Promise<Info> {
    return this.#describe(await this.#metastore.update(key, change));
  }

  async usage(key: string, signal?: AbortSignal): Promise<Usage> {
    const record = this.#find("measure", key);
    switch (record.kind) {
      case "committed":
        return record.usage ?? nothing;
      case "view":
        return nothing;
      case "active":
        return this.#measure(record.id, signal);
    }
  }

  async mounts(key: string): Promise<Mount[]> {
    const record = this.#find("mount", key);
    if (record.kind === "committed") {
      throw new FailedPreconditionError(`Cannot mount ${quote(key)}: it is committed, want a view of it`);
    }
    await this.#options.remote?.require(this.#metastore.ancestors(record.parentID));
    return this.#mounts(record.kind, record, record.parentID);
  }

  async prepare(
    key: string,
    parent: string | undefined,
    labels: Labels,
    signal?: AbortSignal,
  ): Promise<Mount[]> {
    const { remote } = this.#options;
    const snapshot = { kind: "active", key, parent, labels } as const;
    const obstacle = await remote?.prepare(snapshot, signal);
    const mounts = await this.#create(snapshot, signal);
    const made = obstacle === undefined ? undefined : this.#metastore.find(key);
    if (obstacle !== undefined && made !== undefined) {
      remote?.keepObstacle(made.id, obstacle);
    }
    return mounts;
  }

  view(key: string, parent: string | undefined, labels: Labels, signal?: AbortSignal): Promise<Mount[]> {
    return this.#create({ kind: "view", key, parent, labels }, signal);
  }

  async commit(
    name: string,
    key: string,
    labels: Labels,
    parent?: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const change = { name, key, labels, parent };
    const active = checkCommit(this.#metastore.find, change);
    if (active.isRebase && !this.#backend.canRebase) {
      throw new UnimplementedError(
        `Cannot commit ${quote(key)} on ${quote(parent ?? "")}: ${this.#backend.name} keeps whole trees, want it prepared on that parent`,
      );
    }
    try {
      if (this.#options.syncOnCommit) {
        await this.#options.trees.run("sync", { path: this.#directories.pathOf(active.id) }, signal);
      }
      const usage = await this.#measure(active.id, signal);
      signal?.throwIfAborted();
      await this.#metastore.commit(change, active.id, usage);
    } catch (error) {
      // Whatever went wrong, if the snapshot is not what it was, then that is the reason.
      checkCommit(this.#metastore.find, change);
      throw error;
    }
  }

  async remove(key: string): Promise<void> {
    const { id, kind, parentID } = await this.#metastore.remove(key);
    this.#directories.discard(id, kind, parentID);
  }

  walk(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<Info> {
    return walkPages(this.pages(filters, signal));
  }

  async *pages(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<Info[]> {
    const matches = parseFilters(filters, (problem) => {
      this.#options.log.warn({ problem }, "regular expression of a filter matches nothing");
    });
    let afterID = 0;
    for (;;) {
      signal?.throwIfAborted();
      const page = this.#metastore.page(afterID, recordsPerPage);
      const matching = page.filter(matches);
      if (matching.length > 0) {
        yield matching.map(this.#describe);
      }
      if (page.length < recordsPerPage) {
        return;
      }
      afterID = page.at(-1)?.id ?? afterID;
      // Others have their turn, also when nothing matches and nobody waits for what we yield.
      await setImmediate();
    }
  }

  cleanup(signal?: AbortSignal): Promise<void> {
    return this.#directories.cleanup(signal);
  }

  /**
   * The snapshot as the outside is told of it. Where the backend has nothing to add that is the record itself, and the
   * same one each time: what is made of it is kept for as long.
   */
  readonly #describe = (record: SnapshotRecord): Info => {
    const { id, kind, parentID } = record;
    const added = hasDirectory(kind, parentID) && this.#backend.labelsOf(this.#directories.pathOf(id));
    return added ? { ...record, labels: { ...record.labels, ...added } } : record;
  };

  async #create(snapshot: NewSnapshot, signal: AbortSignal | undefined): Promise<Mount[]> {
    const { kind, labels } = snapshot;
    const parent = checkNew(this.#metastore.find, snapshot);
    this.#checkIDMapping(snapshot);
    await this.#options.remote?.require(this.#metastore.ancestors(parent?.id));
    try {
      using made = await this.#directories.make(snapshot, parent?.id, signal);
      signal?.throwIfAborted();
      await this.#metastore.create(made.id, snapshot, parent?.id);
      made.keep();
      return this.#mounts(kind, { id: made.id, labels }, parent?.id);
    } catch (error) {
      // Whatever went wrong, if the snapshot cannot be made any more, then that is the reason.
      checkNew(this.#metastore.find, snapshot);
      throw explainHostFailure(error);
    }
  }

  async #measure(id: number, signal: AbortSignal | undefined): Promise<Usage> {
    const path = contentOf(this.#directories.pathOf(id));
    const options = { maxEntries: maxEntriesInline, onDirectory: () => signal?.throwIfAborted() };
    try {
      return measureTree(path, options) ?? (await this.#options.trees.run("measure", { path }, signal));
    } catch (error) {
      throw explainHostFailure(error);
    }
  }

  #find(action: string, key: string): SnapshotRecord {
    const record = this.#metastore.find(key);
    if (record === undefined) {
      throw new NotFoundError(`Cannot ${action} ${quote(key)}: not found`);
    }
    return record;
  }

  #mounts(
    kind: MountableKind,
    { id, labels }: Pick<SnapshotRecord, "id" | "labels">,
    parentID: number | undefined,
  ): Mount[] {
    const parents = this.#metastore.ancestors(parentID).map((each) => this.#directories.pathOf(each));
    return this.#backend.mounts({ kind, directory: this.#directories.pathOf(id), parents, labels });
  }

  /** A snapshot that is silently shown with the wrong owners would be a hole in the container's walls. */
  #checkIDMapping({ key, labels }: NewSnapshot): void {
    const { name, idMapObstacle } = this.#backend;
    if (idMapObstacle !== undefined && idMappingOf(labels) !== undefined) {
      throw new UnimplementedError(
        `Cannot make ${quote(key)} with mapped ids: ${name} cannot show them here: ${idMapObstacle}, want it without the labels ${uidMappingLabel} and ${gidMappingLabel}`,
      );
    }
  }
}

const nothing: Usage = { inodes: 0n, sizeBytes: 0n };
