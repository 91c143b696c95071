import type { BlobPlace } from "@oci-worker/registry/blob-place";
import { TransientError } from "@oci-worker/registry/errors";

/** How long a place that has failed is tried after the others. */
const restMs = 30_000;

/** Asked again at most so often: somebody who has no access must not make us ask all the time. */
const minReloadMs = 1000;

/** What is known of a place from how it has done. */
interface Health {
  /** Until then it is tried after the others. */
  restsUntil: number;
  /** Until then it has asked not to be tried at all. */
  closedUntil: number;
}

/** The places of one blob in the order in which to try them: as they were given, save that those that fail go behind. */
export class Places {
  readonly #load: () => Promise<readonly BlobPlace[]>;
  readonly #now: () => number;
  readonly #health = new WeakMap<BlobPlace, Health>();
  #loading: Promise<readonly BlobPlace[]> | undefined;
  #loadedAt = Number.NEGATIVE_INFINITY;

  /** Made with `places` if those are known; `load` finds out where the blob is. */
  constructor({
    load,
    places,
    now,
  }: {
    load: () => Promise<readonly BlobPlace[]>;
    places?: readonly BlobPlace[];
    now: () => number;
  }) {
    this.#load = load;
    this.#now = now;
    this.#loading = places && Promise.resolve(places);
  }

  /** All places, the best first. @throws what `load` throws; it is asked again the next time then. */
  async all(): Promise<readonly BlobPlace[]> {
    const places = await (this.#loading ?? this.#begin());
    const now = this.#now();
    const rests = (place: BlobPlace) => (this.#health.get(place)?.restsUntil ?? 0) > now;
    return [...places.filter((place) => !rests(place)), ...places.filter(rests)];
  }

  /** Has the places looked up again, if that was not done just now. @returns whether it will be. */
  reload(): boolean {
    if (this.#now() - this.#loadedAt < minReloadMs) {
      return false;
    }
    this.#loading = undefined;
    return true;
  }

  /** How long `place` does not want to be asked. */
  closedMs(place: BlobPlace): number {
    return Math.max(0, (this.#health.get(place)?.closedUntil ?? 0) - this.#now());
  }

  served(place: BlobPlace): void {
    this.#health.delete(place);
  }

  failed(place: BlobPlace, error: unknown): void {
    const now = this.#now();
    const closedMs = error instanceof TransientError ? (error.retryAfterMs ?? 0) : 0;
    this.#health.set(place, { restsUntil: now + restMs, closedUntil: now + closedMs });
  }

  #begin(): Promise<readonly BlobPlace[]> {
    const loading = this.#load().then((places) => {
      this.#loadedAt = this.#now();
      return places;
    });
    this.#loading = loading;
    loading.catch(() => {
      if (this.#loading === loading) {
        this.#loading = undefined;
      }
    });
    return loading;
  }
}
