import { NotFoundError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import { gidMappingLabel, uidMappingLabel } from "@oci-worker/snapshots/id-mapping";
import { type Labels, snapshotRefLabel } from "@oci-worker/snapshots/labels";
import { quote } from "../metastore/key.ts";
import type { Metastore, SnapshotCounts } from "../metastore/metastore.ts";
import type { SnapshotRecord } from "../metastore/record.ts";
import type { BackendName } from "./backend.ts";
import { type Choice, preference } from "./choose.ts";
import { hasDirectory, type SnapshotDirectories } from "./snapshot-directories.ts";
import { remoteLabel } from "./stargz/lazy-request.ts";
import type { LayerList, LazyExplanation, RemoteSnapshots } from "./stargz/remote-snapshots.ts";

/** Labels that make a snapshot another one than it would be without. Others may name sessions, and are not told here. */
const heededLabels = [uidMappingLabel, gidMappingLabel, snapshotRefLabel, remoteLabel];

/** A backend as the choice has left it. */
export interface Candidate {
  readonly backend: BackendName;
  readonly state: "chosen" | "passed over" | "not tried";
  /** Why it was passed over. */
  readonly obstacle: string | undefined;
}

/** The snapshotter as it runs. */
export interface Description extends Pick<Choice, "backend" | "wanted" | "reason"> {
  readonly candidates: readonly Candidate[];
  readonly root: string;
  readonly snapshots: SnapshotCounts;
  readonly syncOnCommit: boolean;
  /** Whether snapshots are described with the path of their content. */
  readonly upperdirLabel: boolean;
  /** Whose the snapshots are, by that client's name for us; undefined while nobody has made any. */
  readonly owner: string | undefined;
  /** How lazy layers are mounted; undefined if the backend has none. */
  readonly lazy: Pick<LayerList, "mode" | "passedOver"> | undefined;
}

/** What a snapshot is made of. */
export interface Explanation {
  readonly kind: SnapshotRecord["kind"];
  /** Names of everything beneath it, the nearest first. */
  readonly ancestors: readonly string[];
  /** Undefined for a view of another snapshot, which shows that one's. */
  readonly directory: string | undefined;
  readonly mounts: readonly Mount[];
  /** Where its content is mounted now, by itself or beneath others, in the mount namespace of this process. */
  readonly mountPoints: readonly string[];
  /** Those of its labels that this service goes by. */
  readonly labels: Labels;
  /** What a removal would be refused with now; undefined if it would not. */
  readonly removalObstacle: string | undefined;
  /** Which lazy layer it shows, or why the client that wanted one had to unpack it. */
  readonly lazy: LazyExplanation | undefined;
}

export interface InspectorOptions {
  readonly root: string;
  readonly choice: Choice;
  readonly metastore: Metastore;
  readonly directories: Pick<SnapshotDirectories, "pathOf" | "mountPointsOf">;
  readonly syncOnCommit: boolean;
  readonly remote: Pick<RemoteSnapshots, "explain" | "list" | "way"> | undefined;
  readonly mounts: (key: string) => Promise<readonly Mount[]>;
}

/** Says what the snapshotter has decided by itself, and why. Changes nothing. */
export class Inspector {
  readonly #options: InspectorOptions;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  describe(): Description {
    const { root, choice, metastore, syncOnCommit, remote } = this.#options;
    const { backend, wanted, reason } = choice;
    // One that auto never takes is none of its candidates, unless it was named.
    const names = new Set<BackendName>([...preference, backend.name]);
    const candidates = [...names].map((name): Candidate => {
      const obstacle = choice.passedOver.find((each) => each.name === name)?.obstacle;
      const untaken = obstacle === undefined ? "not tried" : "passed over";
      return { backend: name, state: name === backend.name ? "chosen" : untaken, obstacle };
    });
    return {
      backend,
      wanted,
      reason,
      candidates,
      root,
      snapshots: metastore.counts(),
      syncOnCommit,
      upperdirLabel: backend.labelsOf(root) !== undefined,
      owner: metastore.owner?.name,
      lazy: remote?.way,
    };
  }

  /** @throws {NotFoundError} if there is no such snapshot. */
  async explain(key: string): Promise<Explanation> {
    const { metastore, directories, remote, mounts } = this.#options;
    const record = metastore.find(key);
    if (record === undefined) {
      throw new NotFoundError(`Cannot explain ${quote(key)}: not found`);
    }
    const { id, kind, parentID, labels } = record;
    const isSomewhere = hasDirectory(kind, parentID);
    return {
      kind,
      ancestors: this.#ancestors(record),
      directory: isSomewhere ? directories.pathOf(id) : undefined,
      mounts: kind === "committed" ? [] : await mounts(key),
      mountPoints: isSomewhere ? await directories.mountPointsOf(id) : [],
      labels: Object.fromEntries(Object.entries(labels).filter(([name]) => heededLabels.includes(name))),
      removalObstacle: metastore.removalObstacle(record),
      lazy: remote?.explain(id),
    };
  }

  /** The lazy layers; none if the backend has no such. */
  async layers(): Promise<LayerList> {
    return (await this.#options.remote?.list()) ?? { layers: [], mode: "", passedOver: [] };
  }

  #ancestors({ parent }: SnapshotRecord): string[] {
    const names: string[] = [];
    for (let name = parent; name !== undefined; name = this.#options.metastore.find(name)?.parent) {
      names.push(name);
    }
    return names;
  }
}
