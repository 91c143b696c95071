import assert from "node:assert/strict";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { type Mount, mountTemporarily } from "@oci-worker/mounts/mount";
import type { Labels } from "@oci-worker/snapshots/labels";
import type { Info, Kind, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { assertContent, changeFiles, type Files } from "./layer-content.ts";
import type { Random } from "./random.ts";

/** Of the layer beneath all others, which no client removes. */
export const baseName = "base";

/** A client that has more snapshots than that removes some. */
const manySnapshots = 8;

/** What was acknowledged of a snapshot. */
interface Known {
  readonly kind: Kind;
  readonly parent: string;
  readonly labels: Labels;
  /** Of one that can be mounted; undefined if the answer with them was lost. */
  readonly mounts: readonly Mount[] | undefined;
  readonly files: Files;
  /** Whether files of it were changed that the kernel need not have on disk yet. */
  readonly isDirty: boolean;
}

export interface ClientOptions {
  /** Its keys and names begin with that. */
  readonly name: string;
  /** An empty directory to mount in. */
  readonly workDir: string;
  readonly random: Random;
  /**
   * What the snapshotter dies of. A power cut takes what was written to a snapshot that is not committed yet, so that
   * such a one is looked at no more.
   */
  readonly dies: "by kill" | "by power cut";
}

/** A change whose answer was lost: it has happened, or it has not. */
interface Doubt {
  readonly what: string;
  hasHappened(there: ReadonlyMap<string, Info>): boolean;
  apply(): void;
}

/**
 * A client of a snapshotter that dies now and then. It makes one call at a time, knows what it was promised, and holds
 * the snapshotter to it. Its keys and names begin with its own, so that others can be at work beside it.
 */
export class SnapshotClient {
  readonly #name: string;
  readonly #random: Random;
  readonly #workDir: string;
  readonly #losesWrites: boolean;
  #known = new Map<string, Known>();
  #doubt: Doubt | undefined;
  #killed: AbortSignal | undefined;
  #names = 0;

  constructor({ name, workDir, random, dies }: ClientOptions) {
    this.#name = name;
    this.#workDir = workDir;
    this.#random = random;
    this.#losesWrites = dies === "by power cut";
  }

  /** Uses `snapshotter` until it is gone, of which `killed` tells. */
  async work(snapshotter: Snapshotter, killed: AbortSignal): Promise<void> {
    this.#killed = killed;
    while (!killed.aborted) {
      try {
        await this.#step(snapshotter);
      } catch (error) {
        if (!killed.aborted) {
          throw error;
        }
      }
    }
  }

  /**
   * Asserts that `snapshotter`, which has all of `infos`, has what this client was promised and nothing more of it.
   *
   * A call that was not answered may have happened, wholly or not at all.
   */
  async check(snapshotter: Snapshotter, infos: readonly Info[]): Promise<void> {
    const there = new Map(infos.filter(({ name }) => this.#owns(name)).map((info) => [info.name, info]));
    const doubt = this.#doubt;
    this.#doubt = undefined;
    if (doubt?.hasHappened(there)) {
      doubt.apply();
    }
    const about = `${this.#name}, after ${doubt?.what ?? "calls that were all answered"}`;
    assert.deepEqual([...there.keys()].sort(), [...this.#known.keys()].sort(), about);
    for (const [name, known] of this.#known) {
      const { kind, parent, labels } = known;
      const info = there.get(name);
      assert.deepEqual(
        { kind: info?.kind, parent: info?.parent, labels: { ...info?.labels } },
        { kind, parent, labels },
        `${name} of ${about}`,
      );
      if (known.isDirty && this.#losesWrites) {
        await snapshotter.remove(name);
        this.#known.delete(name);
      } else {
        await this.#checkContent(snapshotter, name, known);
      }
    }
  }

  /** Removes all that is this client's. */
  async removeAll(snapshotter: Snapshotter): Promise<void> {
    while (this.#known.size > 0) {
      for (const name of this.#leaves()) {
        await snapshotter.remove(name);
        this.#known.delete(name);
      }
    }
  }

  async #step(snapshotter: Snapshotter): Promise<void> {
    const random = this.#random;
    if (this.#known.size > manySnapshots) {
      await this.#remove(snapshotter, random.pick(this.#leaves()) ?? "");
      return;
    }
    const actives = this.#namesOf("active");
    const active = random.pick(actives);
    switch (random.below(10)) {
      case 0:
      case 1:
      case 2:
        return this.#make(snapshotter, "active");
      case 3:
        return this.#make(snapshotter, "view");
      case 4:
      case 5:
        return active === undefined ? undefined : this.#write(active);
      case 6:
      case 7:
        return active === undefined ? undefined : this.#commit(snapshotter, active);
      case 8:
        return this.#update(snapshotter, random.pick([...this.#known.keys()]));
      default:
        return this.#look(snapshotter);
    }
  }

  async #make(snapshotter: Snapshotter, kind: "active" | "view"): Promise<void> {
    const parent = this.#random.pick([baseName, ...this.#namesOf("committed")]) ?? baseName;
    const key = this.#newName();
    const labels = { made: key };
    const files = this.#known.get(parent)?.files ?? new Map<string, string>();
    let mounts: readonly Mount[] | undefined;
    await this.#change(
      {
        what: `${kind} ${key} on ${parent}`,
        hasHappened: (there) => there.has(key),
        apply: () => this.#known.set(key, { kind, parent, labels, mounts, files, isDirty: false }),
      },
      async () => {
        mounts = await (kind === "active"
          ? snapshotter.prepare(key, parent, labels)
          : snapshotter.view(key, parent, labels));
      },
    );
  }

  /** Files are the kernel's business: a kill of the snapshotter is none of them. */
  async #write(key: string): Promise<void> {
    const known = this.#get(key);
    if (known.mounts === undefined) {
      return;
    }
    await using directory = await mountTemporarily(known.mounts, this.#workDir);
    this.#known.set(key, { ...known, isDirty: true });
    const files = changeFiles(directory.path, known.files, this.#random);
    this.#known.set(key, { ...known, files, isDirty: true });
  }

  #commit(snapshotter: Snapshotter, key: string): Promise<void> {
    const name = this.#newName();
    const labels = { committed: name };
    const { parent, files } = this.#get(key);
    return this.#change(
      {
        what: `commit of ${key} as ${name}`,
        hasHappened: (there) => there.has(name),
        apply: () => {
          this.#known.delete(key);
          const mounts = undefined;
          this.#known.set(name, { kind: "committed", parent, labels, mounts, files, isDirty: false });
        },
      },
      () => snapshotter.commit(name, key, labels),
    );
  }

  async #update(snapshotter: Snapshotter, name: string | undefined): Promise<void> {
    if (name === undefined) {
      return;
    }
    const known = this.#get(name);
    const labels = { ...known.labels, updated: `${this.#random.below(1000)}` };
    await this.#change(
      {
        what: `update of ${name}`,
        hasHappened: (there) => there.get(name)?.labels["updated"] === labels.updated,
        apply: () => this.#known.set(name, { ...known, labels }),
      },
      () => snapshotter.update(name, { merge: { updated: labels.updated } }),
    );
  }

  #remove(snapshotter: Snapshotter, name: string): Promise<void> {
    return this.#change(
      {
        what: `remove of ${name}`,
        hasHappened: (there) => !there.has(name),
        apply: () => this.#known.delete(name),
      },
      () => snapshotter.remove(name),
    );
  }

  /** Calls that change nothing, or only what nobody has any more. */
  async #look(snapshotter: Snapshotter): Promise<void> {
    const name = this.#random.pick([...this.#known.keys()]);
    switch (this.#random.below(4)) {
      case 0:
        return snapshotter.cleanup();
      case 1: {
        const infos = await Array.fromAsync(snapshotter.walk([`name~=^${this.#name}/`]));
        assert.deepEqual(infos.map((info) => info.name).sort(), [...this.#known.keys()].sort());
        return;
      }
      case 2: {
        const parent = this.#namesOf("committed").find((each) => !this.#leaves().includes(each));
        return parent === undefined
          ? undefined
          : assert.rejects(snapshotter.remove(parent), FailedPreconditionError);
      }
      default:
        if (name !== undefined) {
          await snapshotter.usage(name);
          assert.equal((await snapshotter.stat(name)).kind, this.#get(name).kind);
        }
    }
  }

  /** Makes a change of which the snapshotter may not live to tell. */
  async #change(doubt: Doubt, call: () => Promise<unknown>): Promise<void> {
    this.#doubt = doubt;
    await call();
    // A machine gives no answer once its power is gone; here it can: a sync that ext4 was at when it was shut down may have
    // reported success for what its journal then dropped. Such an answer counts as none.
    if (this.#losesWrites && this.#killed?.aborted) {
      return;
    }
    this.#doubt = undefined;
    doubt.apply();
  }

  async #checkContent(snapshotter: Snapshotter, name: string, known: Known): Promise<void> {
    const isCommitted = known.kind === "committed";
    const view = `${this.#name}/look`;
    const mounts = isCommitted ? await snapshotter.view(view, name, {}) : await snapshotter.mounts(name);
    if (!isCommitted) {
      assert.deepEqual(mounts, known.mounts ?? mounts, `mounts of ${name}`);
      this.#known.set(name, { ...known, mounts });
    }
    {
      await using directory = await mountTemporarily(mounts, this.#workDir);
      assertContent(directory.path, known.files, this.#random);
    }
    if (isCommitted) {
      await snapshotter.remove(view);
    }
  }

  #get(name: string): Known {
    const known = this.#known.get(name);
    assert(known !== undefined, name);
    return known;
  }

  #namesOf(kind: Kind): string[] {
    return [...this.#known].filter(([, known]) => known.kind === kind).map(([name]) => name);
  }

  /** Those that are nobody's parent. */
  #leaves(): string[] {
    const parents = new Set([...this.#known.values()].map(({ parent }) => parent));
    return [...this.#known.keys()].filter((name) => !parents.has(name));
  }

  /** One that nothing has at the moment; others had it before. */
  #newName(): string {
    do {
      this.#names = (this.#names + 1) % 50;
    } while (this.#known.has(`${this.#name}/${this.#names}`));
    return `${this.#name}/${this.#names}`;
  }

  #owns(name: string): boolean {
    return name.startsWith(`${this.#name}/`);
  }
}
