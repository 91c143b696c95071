import { tocDigestAnnotation } from "@oci-worker/estargz/annotations";
import type { DiffID } from "@oci-worker/oci/chain-id";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import {
  dockerLayer,
  dockerLayerGzip,
  dockerLayerZstd,
  layerType,
  ociLayer,
  ociLayerGzip,
  ociLayerZstd,
} from "@oci-worker/oci/media-type";

/** How a layer is packed, in the words of clients (BuildKit, util/compression). */
export const layerFormats = ["uncompressed", "gzip", "estargz", "zstd"] as const;

export type LayerFormat = (typeof layerFormats)[number];

/** The media types of layers, of OCI and of Docker. eStargz is gzip to whoever does not look closer. */
export const ociTypes = {
  uncompressed: ociLayer,
  gzip: ociLayerGzip,
  estargz: ociLayerGzip,
  zstd: ociLayerZstd,
} as const satisfies Record<LayerFormat, string>;

export const dockerTypes = {
  uncompressed: dockerLayer,
  gzip: dockerLayerGzip,
  estargz: dockerLayerGzip,
  zstd: dockerLayerZstd,
} as const satisfies Record<LayerFormat, string>;

/** How layers are wanted. */
export interface LayerPacking {
  readonly format: LayerFormat;
  /** Of the compressor; undefined for what it uses by itself. */
  readonly level: number | undefined;
  /** Also layers that have a blob of another format already. */
  readonly isForced: boolean;
}

/** One way in which a layer can be handed out. */
export interface LayerBlob {
  readonly format: LayerFormat;
  /** In types of OCI or of Docker, as it came. */
  readonly descriptor: Descriptor;
  /** Of this blob: that of eStargz has a file more than others of the same layer. */
  readonly diffID: DiffID;
  /** An image that has it, so that it can be fetched; undefined for what was made here. */
  readonly reference: string | undefined;
}

/** Whether a blob is what is wanted: eStargz is gzip, too. */
export function hasFormat(blob: Pick<LayerBlob, "format">, wanted: LayerFormat): boolean {
  return blob.format === wanted || (wanted === "gzip" && blob.format === "estargz");
}

/** The format of a layer of an image; undefined if it is of a kind that we do not know. */
export function formatOf({ mediaType, annotations }: Descriptor): LayerFormat | undefined {
  const type = layerType(mediaType);
  switch (type?.compression) {
    case "none":
      return "uncompressed";
    case "gzip":
      return annotations?.[tocDigestAnnotation] === undefined ? "gzip" : "estargz";
    case "zstd":
      return "zstd";
    case undefined:
      return undefined;
  }
}
