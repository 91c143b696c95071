import { mkdirSync, renameSync } from "node:fs";
import { chmod, mkdir, readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { readMountsAndServed } from "@oci-worker/mounts/served-overlays";
import type { Labels } from "@oci-worker/snapshots/labels";
import type { Logger } from "pino";
import type { Trees } from "../trees/trees.ts";
import { type Backend, contentOf, type MountableKind, type NewContent } from "./backend.ts";
import { DirectorySync, syncDirectory } from "./directory-sync.ts";
import { mountsInTheWay, type OwnMounts } from "./mounts-in-the-way.ts";
import { SpareDirectories } from "./spare-directories.ts";
import { Trash } from "./trash.ts";

export interface SnapshotDirectoriesOptions {
  /** Its directories `snapshots` and `spare` are ours. */
  readonly root: string;
  readonly backend: Backend;
  readonly trees: Trees;
  /** The highest id that any snapshot has ever had. */
  readonly lastID: number;
  /** The ids of all snapshots there are now. */
  readonly liveIDs: () => ReadonlySet<number>;
  /** What is mounted in directories by ourselves; absent: nothing. */
  readonly ownMounts?: OwnMounts | undefined;
  readonly log: Logger;
}

const noMounts: OwnMounts = { holds: () => false, release: async () => undefined };

const privateMode = 0o700;

/** A snapshot's, or one that is being filled to become one. */
const directoryName = /^(?:new-)?(\d+)$/;

/**
 * The directories of snapshots on disk, from staging to clean-up, the same for every backend.
 *
 * A directory is filled under the name `new-ID`, renamed to `ID` and made durable; then the snapshot is written to the
 * metastore. So a snapshot that is there has its directory, whenever the power goes, and a directory without a snapshot
 * is an orphan, which the next start sweeps away. One that was made ahead is durable elsewhere and only moved: if the
 * power goes before the move is on disk, the next start makes it again.
 *
 * Ids are never given out again. So an orphan is in nobody's way, and a client that still has a removed snapshot
 * mounted never sees another one's content there.
 */
export class SnapshotDirectories implements AsyncDisposable {
  readonly #directory: string;
  readonly #options: SnapshotDirectoriesOptions;
  readonly #trash: Trash;
  readonly #sync: DirectorySync;
  readonly #spares: SpareDirectories;
  /** Ids of snapshots that are being made. Their directories are no orphans. */
  readonly #making = new Set<number>();
  #lastID: number;

  /** Opens the directories, and begins to delete what removed snapshots and calls cut short have left. */
  static async open(options: SnapshotDirectoriesOptions): Promise<SnapshotDirectories> {
    const { root } = options;
    const snapshots = snapshotsIn(root);
    const spare = `${root}/spare`;
    for (const directory of [snapshots, spare]) {
      await mkdir(directory, { recursive: true, mode: privateMode });
      // A restore, or an older version, may have made it with other permissions.
      await chmod(directory, privateMode);
    }
    // A snapshot is no more durable than the way to it.
    syncDirectory(root);
    syncDirectory(dirname(root));
    const directories = new SnapshotDirectories(snapshots, spare, options);
    await directories.#recover();
    return directories;
  }

  private constructor(snapshots: string, spare: string, options: SnapshotDirectoriesOptions) {
    const { trees, ownMounts = noMounts, log } = options;
    this.#directory = snapshots;
    this.#options = options;
    this.#lastID = options.lastID;
    this.#trash = new Trash(trees, ownMounts, log);
    this.#sync = new DirectorySync(snapshots);
    this.#spares = new SpareDirectories(spare, trees, () => this.#nextID(), log);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#trash[Symbol.asyncDispose]();
    this.#sync[Symbol.dispose]();
  }

  /** The directory of the snapshot `id`. */
  pathOf(id: number): string {
    return `${this.#directory}/${id}`;
  }

  /**
   * Makes the directory of a new snapshot on the one with the id `parentID`, or only an id for a view of that one,
   * which shows that one's directories and needs none.
   */
  async make(
    { kind, labels }: { readonly kind: MountableKind; readonly labels: Labels },
    parentID: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<NewDirectory> {
    this.#trash.giveWay();
    const parentContent = parentID === undefined ? undefined : contentOf(this.pathOf(parentID));
    const content = { kind, parentContent, labels };
    const spare = this.#options.backend.isSpareEnough(content) ? this.#spares.take() : undefined;
    const id = spare ?? this.#nextID();
    this.#making.add(id);
    const made = new NewDirectory(id, (kept) => this.#end(id, kept));
    try {
      if (spare !== undefined) {
        renameSync(this.#spares.pathOf(spare), this.pathOf(spare));
      } else if (hasDirectory(kind, parentID)) {
        await this.#fill(id, content, signal);
      }
      return made;
    } catch (error) {
      made[Symbol.dispose]();
      throw error;
    }
  }

  /** Where the content of the snapshot `id` is mounted now, by itself or beneath others, as far as this process can see. */
  async mountPointsOf(id: number): Promise<readonly string[]> {
    const { ownMounts = noMounts } = this.#options;
    const inTheWay = await mountsInTheWay(await readMountsAndServed(), this.#directory, ownMounts);
    return inTheWay.get(String(id)) ?? [];
  }

  /** Deletes the directory of a snapshot that was removed, some time. */
  discard(id: number, kind: MountableKind | "committed", parentID: number | undefined): void {
    this.#trash.giveWay();
    if (hasDirectory(kind, parentID)) {
      this.#trash.add(this.pathOf(id));
    }
  }

  /** Deletes every directory without a snapshot now. What cannot be deleted is logged. */
  async cleanup(signal: AbortSignal | undefined): Promise<void> {
    for (const path of this.#orphans(await readdir(this.#directory))) {
      this.#trash.add(path);
    }
    await this.#trash.empty(signal);
  }

  async #fill(id: number, content: NewContent, signal: AbortSignal | undefined): Promise<void> {
    const staging = this.#stagingOf(id);
    mkdirSync(staging, privateMode);
    await this.#options.backend.fill(staging, content, signal);
    // The rename comes last: file systems write their changes in order, so that when it is on disk all before it is.
    renameSync(staging, this.pathOf(id));
    await this.#sync.flush();
  }

  #end(id: number, kept: boolean): void {
    this.#making.delete(id);
    if (!kept) {
      this.#trash.add(this.#stagingOf(id));
      this.#trash.add(this.pathOf(id));
    }
  }

  /** Puts in order what an earlier process has left. */
  async #recover(): Promise<void> {
    const spares = await this.#spares.left();
    const live = spares.length > 0 ? this.#options.liveIDs() : new Set();
    const lost = spares.filter((name) => live.has(Number(name)));
    for (const name of lost) {
      renameSync(this.#spares.pathOf(name), this.pathOf(Number(name)));
    }
    const names = await readdir(this.#directory);
    this.#lastID = [...spares, ...names].reduce(
      (last, name) => Math.max(last, idOf(name) ?? 0),
      this.#lastID,
    );
    const unused = spares.filter((name) => !lost.includes(name)).map((name) => this.#spares.pathOf(name));
    const orphans = [...unused, ...this.#orphans(names)];
    if (orphans.length > 0) {
      this.#options.log.info({ directories: orphans.length }, "deleting directories without a snapshot");
    }
    for (const path of orphans) {
      this.#trash.add(path);
    }
  }

  /** Those of the directories `names` that belong to no snapshot, neither one that is nor one that is being made. */
  #orphans(names: readonly string[]): string[] {
    const live = this.#options.liveIDs();
    return names
      .filter((name) => {
        const id = idOf(name);
        return id === undefined || !(this.#making.has(id) || (name === String(id) && live.has(id)));
      })
      .map((name) => `${this.#directory}/${name}`);
  }

  #nextID(): number {
    this.#lastID += 1;
    return this.#lastID;
  }

  #stagingOf(id: number): string {
    return `${this.#directory}/new-${id}`;
  }
}

/** The directory of a snapshot that is being made. Disposing deletes it, unless it was kept. */
class NewDirectory implements Disposable {
  /** The id of the snapshot. */
  readonly id: number;
  readonly #onEnd: (kept: boolean) => void;
  #kept = false;

  constructor(id: number, onEnd: (kept: boolean) => void) {
    this.id = id;
    this.#onEnd = onEnd;
  }

  /** To be called when the snapshot is in the metastore. */
  keep(): void {
    this.#kept = true;
  }

  [Symbol.dispose](): void {
    this.#onEnd(this.#kept);
  }
}

/** Where the directories of the snapshots on `root` are. */
export function snapshotsIn(root: string): string {
  return `${root}/snapshots`;
}

/** A view of another snapshot shows that one's directories and needs none. */
export function hasDirectory(kind: MountableKind | "committed", parentID: number | undefined): boolean {
  return kind !== "view" || parentID === undefined;
}

function idOf(name: string): number | undefined {
  const digits = directoryName.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
