import { type Digest, digestOf } from "./digest.ts";

declare const brand: unique symbol;

/** Digest of the uncompressed tar of one layer (OCI image-spec, config.md, "Layer DiffID"). */
export type DiffID = Digest;

/**
 * Digest of a stack of layers (OCI image-spec, config.md, "Layer ChainID"). It names the snapshot that the stack
 * unpacks to.
 *
 * A type of its own, because the ChainID of a single layer equals its DiffID: an image of one layer would hide that
 * the two were confused.
 */
export type ChainID = Digest & { readonly [brand]: "ChainID" };

/** The ChainID of each layer with all those beneath it, for layers from the base upwards. */
export function chainIDs(diffIDs: readonly DiffID[]): ChainID[] {
  const chain: ChainID[] = [];
  for (const diffID of diffIDs) {
    chain.push(extendChain(chain.at(-1), diffID));
  }
  return chain;
}

/** The ChainID of the layer `diffID` on top of `parent`, or on top of nothing. */
export function extendChain(parent: ChainID | undefined, diffID: DiffID): ChainID {
  return (parent === undefined ? diffID : digestOf(`${parent} ${diffID}`)) as ChainID;
}
