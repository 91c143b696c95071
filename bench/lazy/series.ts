/** Who is measured: us, stargz-snapshotter, or overlayfs on the same files unpacked. */
export type Who = "ours" | "stargz" | "unpacked";

/** Figures of several rounds. */
export class Series {
  readonly #values = new Map<string, number[]>();

  add(who: Who, what: string, value: number): void {
    const key = `${who} ${what}`;
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  /** @throws if there is no such figure. */
  median(who: Who, what: string): number {
    const sorted = this.#values.get(`${who} ${what}`)?.toSorted((a, b) => a - b);
    const middle = sorted?.[sorted.length >> 1];
    if (middle === undefined) {
      throw new Error(`Nothing has been measured of ${who} for ${what}`);
    }
    return middle;
  }
}
