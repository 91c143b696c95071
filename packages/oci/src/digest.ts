import { createHash } from "node:crypto";
import { InvalidArgumentError } from "@oci-worker/errdefs";

declare const brand: unique symbol;

/**
 * A content digest in its canonical text form, `sha256:` and 64 lower-case hex digits (OCI image-spec,
 * descriptor.md, "Digests").
 *
 * Only the functions of this file make one, so a value of this type has been checked.
 */
export type Digest = string & { readonly [brand]: "Digest" };

const canonical = /^sha256:[0-9a-f]{64}$/;

/**
 * Checks that `text` is a digest we can verify.
 *
 * @throws {InvalidArgumentError} if the algorithm is not sha256 or the hex part is malformed.
 */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(text.slice(0, 200))} as a digest: want "sha256:" and 64 lower-case hex digits`,
    );
  }
  return text;
}

/** Whether `text` is a digest we can verify, where it is no error if it is not. */
export function isDigest(text: string): text is Digest {
  return canonical.test(text);
}

/** The digest of `bytes`. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return digestOfHash(createHash("sha256").update(bytes));
}

/** Ends `hash`, a sha256, and gives its digest: for content that was hashed piece by piece. */
export function digestOfHash(hash: { digest(encoding: "hex"): string }): Digest {
  return `sha256:${hash.digest("hex")}` as Digest;
}

/** The digest that has `bytes`, 32 of them. */
export function digestOfBytes(bytes: Uint8Array): Digest {
  return `sha256:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex")}` as Digest;
}

/** The hex part of `digest`, which names its blob in a content store. */
export function hexOf(digest: Digest): string {
  return digest.slice("sha256:".length);
}
