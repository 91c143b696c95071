import { type ByteString, quoted } from "../tar/byte-string.ts";

/** Something of a layer that was left out, knowingly. */
export interface Skip {
  /** The name of the entry, quoted. */
  readonly entry: string;
  readonly why: string;
}

/** How many skips are told one by one; a layer decides how many there are, so there must be an end. */
const maxTold = 100;

/** What has been skipped: the first ones, and how many in all. */
export class Skips {
  readonly told: Skip[] = [];
  count = 0;

  add(entry: ByteString, why: string): void {
    this.count += 1;
    if (this.told.length < maxTold) {
      this.told.push({ entry: quoted(entry), why });
    }
  }
}
