import type { Digest } from "@oci-worker/oci/digest";

/** How many records and leases need each blob. */
export class BlobUses {
  readonly #uses = new Map<Digest, number>();

  has(digest: Digest): boolean {
    return this.#uses.has(digest);
  }

  add(digests: readonly Digest[]): void {
    for (const digest of digests) {
      this.#uses.set(digest, (this.#uses.get(digest) ?? 0) + 1);
    }
  }

  remove(digests: readonly Digest[]): void {
    for (const digest of digests) {
      const left = (this.#uses.get(digest) ?? 0) - 1;
      if (left > 0) {
        this.#uses.set(digest, left);
      } else {
        this.#uses.delete(digest);
      }
    }
  }
}
