import type { Status } from "@oci-worker/errdefs/connect";
import type { Trees } from "@oci-worker/layer/compare-trees";
import type { DiffID } from "@oci-worker/oci/chain-id";
import type { Digest } from "@oci-worker/oci/digest";
import type { LayerFormat } from "./layer-blob.ts";

/** What a layer is made of: what differs between two trees, or a blob of another format. */
export type LayerSource =
  | { readonly kind: "trees"; readonly trees: Trees }
  | { readonly kind: "blob"; readonly path: string; readonly sizeBytes: number; readonly diffID: DiffID };

/** What the thread is to make. */
export interface LayerTask {
  readonly source: LayerSource;
  readonly format: LayerFormat;
  readonly level: number | undefined;
  /** Of the file for it. */
  readonly targetFd: number;
  /** Where there is room for the layer, uncompressed. */
  readonly directory: string;
}

/** A layer that has been made. */
export interface WrittenLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffID: DiffID;
  readonly annotations: Readonly<Record<string, string>>;
}

/** How many bytes it has so far. */
export interface LayerProgress {
  readonly writtenBytes: number;
}

/** What the thread says at last. */
export type LayerOutcome =
  | { readonly kind: "written"; readonly layer: WrittenLayer }
  | { readonly kind: "inexpressible"; readonly obstacle: string }
  | { readonly kind: "failed"; readonly status: Status };
