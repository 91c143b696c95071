import { AlreadyExistsError, DeadlineExceededError, ServiceError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import type { Logger } from "pino";
import { abortable } from "../../abortable.ts";
import type {
  LayerIdentity,
  LayerMounts,
  LayerStatus,
  LazyLayers,
  OpenedLayer,
} from "../../lazy/lazy-layers.ts";
import { BoundedMap } from "../../metastore/bounded-map.ts";
import { quote } from "../../metastore/key.ts";
import type { Metastore } from "../../metastore/metastore.ts";
import { checkNew, type NewSnapshot } from "../../metastore/rules.ts";
import type { SnapshotDirectories } from "../snapshot-directories.ts";
import type { LazyMounts } from "./lazy-mounts.ts";
import { lazyTargetOf, leftoverLabels, remoteLabel, remoteLabelValue } from "./lazy-request.ts";

export interface RemoteSnapshotsOptions {
  readonly metastore: Metastore;
  readonly directories: SnapshotDirectories;
  readonly layers: LazyLayers;
  readonly mounts: Pick<LayerMounts, "mode" | "passedOver">;
  readonly lazyMounts: LazyMounts;
  /** How long a prepare waits for a layer before the client is told to unpack it. */
  readonly openTimeoutMs: number;
  readonly log: Logger;
}

/** Of so many snapshots it is remembered why they were not lazy. */
const maxReasons = 4096;

/** A lazy layer, or why a layer is none. */
export type LazyExplanation = LayerIdentity | { readonly obstacle: string };

/** Every lazy layer with the names of the snapshots that show it. */
export interface LayerList extends Pick<LayerMounts, "mode" | "passedOver"> {
  readonly layers: readonly (LayerStatus & { readonly snapshots: readonly string[] })[];
}

/** What came of a layer that a client would rather not unpack. */
type Outcome = { readonly name: string } | { readonly obstacle: string };

/**
 * The snapshots that a client asks for by the name of a layer and need not fill: the remote-snapshot protocol of
 * containerd.
 *
 * A layer is opened and mounted before the database hears of it, so the network keeps no other change waiting, and one
 * change makes the snapshot. No key of the client's is ever taken for it: a crash leaves a directory without a snapshot,
 * which the next start sweeps away, mount and all.
 */
export class RemoteSnapshots {
  readonly #options: RemoteSnapshotsOptions;
  /** Clients that want the same layer on the same parent share one piece of work. */
  readonly #flights = new Flights<Outcome>();
  readonly #obstacles = new BoundedMap<number, string>(maxReasons);

  constructor(options: RemoteSnapshotsOptions) {
    this.#options = options;
  }

  /**
   * Takes away the labels that clients have set for the time of one call and not taken away again. To be called at the
   * start, when there is no call.
   */
  async sweepLabels(): Promise<void> {
    const { metastore, lazyMounts, log } = this.#options;
    for (const id of lazyMounts.ids) {
      const record = metastore.findByID(id);
      const leftover = leftoverLabels(record?.labels ?? {});
      if (record !== undefined && leftover.length > 0) {
        try {
          await metastore.update(record.name, {
            merge: Object.fromEntries(leftover.map((key) => [key, ""])),
          });
        } catch (error) {
          log.warn({ name: record.name, err: error }, "leftover labels of a lazy layer not removed");
        }
      }
    }
  }

  /**
   * Puts the layer that `snapshot` is prepared for into place, if it can be had without an unpack.
   *
   * @returns why not; undefined if the client did not ask for that.
   * @throws {AlreadyExistsError} if it is in place, which tells the client so.
   * @throws what {@link checkNew} throws.
   */
  async prepare(snapshot: NewSnapshot, signal: AbortSignal | undefined): Promise<string | undefined> {
    const target = lazyTargetOf(snapshot.labels);
    if (target === undefined) {
      return undefined;
    }
    const { metastore, log } = this.#options;
    const parentID = checkNew(metastore.find, snapshot)?.id;
    const work = (flightSignal: AbortSignal) => this.#put(target, snapshot, parentID, flightSignal);
    const flight = JSON.stringify([target, parentID]);
    const outcome = await this.#flights.join(flight, work, signal ?? new AbortController().signal);
    const { key } = snapshot;
    if ("obstacle" in outcome) {
      log.warn(
        { key, target, obstacle: outcome.obstacle, "remote-snapshot-prepared": "false" },
        "layer not lazy",
      );
      return outcome.obstacle;
    }
    log.info({ key, target, name: outcome.name, "remote-snapshot-prepared": "true" }, "lazy layer in place");
    throw new AlreadyExistsError(`Cannot prepare ${quote(key)}: target ${quote(target)}: already exists`);
  }

  /** Remembers why the snapshot `id` has to be unpacked. */
  keepObstacle(id: number, obstacle: string): void {
    this.#obstacles.set(id, obstacle);
  }

  /**
   * Which lazy layer the snapshot `id` shows, or why the client had to unpack it; undefined if it asked for neither, or
   * was told so before the start.
   */
  explain(id: number): LazyExplanation | undefined {
    const layer = this.#options.lazyMounts.layerOf(id);
    const obstacle = this.#obstacles.get(id);
    return layer ?? (obstacle === undefined ? undefined : { obstacle });
  }

  /** How lazy layers are mounted, and why not better. */
  get way(): Pick<LayerList, "mode" | "passedOver"> {
    return this.#options.mounts;
  }

  /** The lazy layers, how they are mounted, and which snapshots show each. */
  async list(): Promise<LayerList> {
    const { layers, mounts, lazyMounts, metastore } = this.#options;
    const nameOf = (id: number) => metastore.findByID(id)?.name;
    const all = (await layers.status()).map((status) => {
      const names = lazyMounts.showing(status).map(nameOf);
      return { ...status, snapshots: names.filter((name) => name !== undefined) };
    });
    return { layers: all, mode: mounts.mode, passedOver: mounts.passedOver };
  }

  /**
   * Sees to it that the lazy layers among the snapshots `ids` can be read.
   *
   * @throws {UnavailableError} naming one that cannot be, and why.
   */
  require(ids: readonly number[]): Promise<void> {
    return this.#options.lazyMounts.require(ids, this.#options.metastore.findByID);
  }

  async #put(
    target: string,
    snapshot: NewSnapshot,
    parentID: number | undefined,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { metastore, directories, lazyMounts } = this.#options;
    const name = this.#nameFor(target, parentID);
    if (this.#isThere(name, parentID)) {
      return { name };
    }
    let layer: OpenedLayer;
    try {
      layer = await this.#open(snapshot, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ServiceError)) {
        throw error;
      }
      return { obstacle: error.message };
    }
    // Like a view's, its directory has nothing but the place for its content, and no parent's owner.
    using made = await directories.make({ kind: "view", labels: {} }, undefined, signal);
    try {
      await lazyMounts.put(made.id, layer);
    } catch (error) {
      this.#options.log.warn({ digest: layer.digest, err: error }, "lazy layer not mounted");
      return {
        obstacle: `Cannot mount layer ${layer.digest}: ${error instanceof Error ? error.message : error}`,
      };
    }
    signal.throwIfAborted();
    const labels = { ...snapshot.labels, [remoteLabel]: remoteLabelValue };
    try {
      await metastore.createCommitted(made.id, { ...snapshot, key: name, labels }, parentID);
      made.keep();
    } catch (error) {
      // Somebody may have unpacked it meanwhile.
      if (!this.#isThere(name, parentID)) {
        throw error;
      }
    }
    return { name };
  }

  /** Opens the layer, or gives up in time: a client that waits does not unpack. */
  async #open({ labels }: NewSnapshot, signal: AbortSignal): Promise<OpenedLayer> {
    const { layers, openTimeoutMs } = this.#options;
    const timeout = AbortSignal.timeout(openTimeoutMs);
    const limit = AbortSignal.any([signal, timeout]);
    try {
      return await abortable(layers.open(labels, limit), limit);
    } catch (error) {
      if (timeout.aborted && !signal.aborted) {
        throw new DeadlineExceededError(`Cannot open the layer: it took longer than ${openTimeoutMs} ms`);
      }
      throw error;
    }
  }

  /**
   * What the snapshot is called. Clients of containerd's metadata look for it by its labels and its parent, so where
   * another parent has the layer already, the second one needs a name of its own.
   */
  #nameFor(target: string, parentID: number | undefined): string {
    const isFree = this.#options.metastore.find(target) === undefined || this.#isThere(target, parentID);
    return isFree ? target : `${target} on ${parentID ?? "nothing"}`;
  }

  #isThere(name: string, parentID: number | undefined): boolean {
    const record = this.#options.metastore.find(name);
    return record?.kind === "committed" && record.parentID === parentID;
  }
}
