import { isTocAnnotation } from "@oci-worker/estargz/annotations";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import type { JsonObject } from "@oci-worker/oci/document";
import type { ImageConfig } from "@oci-worker/oci/image-config";
import type { Index, Manifest } from "@oci-worker/oci/manifest";
import { layerType, ociConfig, ociIndex, ociLayer, ociManifest } from "@oci-worker/oci/media-type";

/** A document that is ready to be pushed. */
export interface NewDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** On a layer's descriptor, in some registries: what it is decompressed. */
const uncompressedAnnotation = "containerd.io/uncompressed";

/** The config of the same image with other layers. All else stays, the history too: it tells how the files came about. */
export function newConfig({ document }: ImageConfig, diffIDs: readonly Digest[]): NewDocument {
  const rootfs = { ...(document["rootfs"] as JsonObject | undefined), type: "layers", diff_ids: diffIDs };
  return documentOf(ociConfig, { ...document, rootfs });
}

/** The manifest of the same image with other layers, in OCI's types whatever it had. */
export function newManifest(
  { document }: Manifest,
  config: Descriptor,
  layers: readonly Descriptor[],
): NewDocument {
  const types = { mediaType: ociManifest, config, layers: layers.map(withOciType) };
  return documentOf(ociManifest, { ...document, ...types });
}

/** `index` with other images in place of its own; those that have no other are left out. */
export function newIndex({ document }: Index, images: ReadonlyMap<number, Descriptor>): NewDocument {
  const entries = document["manifests"] as readonly JsonObject[];
  const manifests = entries.flatMap((entry, position) => {
    const image = images.get(position);
    // What else is there stays: the platform may have features that we do not know.
    return image === undefined
      ? []
      : [{ ...entry, mediaType: image.mediaType, digest: image.digest, size: image.size }];
  });
  return documentOf(ociIndex, { ...document, mediaType: ociIndex, manifests });
}

/** The descriptor of a layer that was built in place of `source`. */
export function builtDescriptor(
  source: Descriptor,
  built: Pick<Descriptor, "mediaType" | "digest" | "size"> & Required<Pick<Descriptor, "annotations">>,
): Descriptor {
  const kept = Object.entries(source.annotations ?? {}).filter(
    ([name]) => !isTocAnnotation(name) && name !== uncompressedAnnotation,
  );
  const { mediaType, digest, size } = built;
  return { mediaType, digest, size, annotations: { ...Object.fromEntries(kept), ...built.annotations } };
}

/** `layer` with the type that OCI has for what it is. One that nobody knows stays as it is. */
function withOciType(layer: Descriptor): Descriptor {
  const type = layerType(layer.mediaType);
  if (type === undefined) {
    return layer;
  }
  const archive = type.distributable ? ociLayer : ociLayer.replace(".v1", ".nondistributable.v1");
  return { ...layer, mediaType: type.compression === "none" ? archive : `${archive}+${type.compression}` };
}

function documentOf(mediaType: string, document: JsonObject): NewDocument {
  const bytes = Buffer.from(JSON.stringify(document));
  return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length }, bytes };
}
