/** How a layer blob is compressed. */
export type Compression = "none" | "gzip" | "zstd";

/** What the media type of a layer says. */
export interface LayerType {
  readonly compression: Compression;
  /** False for layers that registries do not host, such as Windows base layers: they are fetched from their URLs. */
  readonly distributable: boolean;
}

export const ociIndex = "application/vnd.oci.image.index.v1+json";
export const ociManifest = "application/vnd.oci.image.manifest.v1+json";
export const ociConfig = "application/vnd.oci.image.config.v1+json";
export const ociLayer = "application/vnd.oci.image.layer.v1.tar";
export const ociLayerGzip = `${ociLayer}+gzip`;
export const ociLayerZstd = `${ociLayer}+zstd`;

export const dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json";
export const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
export const dockerConfig = "application/vnd.docker.container.image.v1+json";
export const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
export const dockerLayerGzip = `${dockerLayer}.gzip`;
export const dockerLayerZstd = `${dockerLayer}.zstd`;

/** Documents that we can take when an image is asked for, for an Accept header. */
export const imageDocumentTypes: readonly string[] = [dockerManifest, dockerIndex, ociManifest, ociIndex];

/** Every layer type that OCI (image-spec, layer.md) and Docker (image-spec v1.2 and its foreign layers) define. */
const layerTypes: ReadonlyMap<string, LayerType> = new Map([
  ...ociLayers(ociLayer, true),
  ...ociLayers("application/vnd.oci.image.layer.nondistributable.v1.tar", false),
  [dockerLayer, { compression: "none", distributable: true }],
  [dockerLayerGzip, { compression: "gzip", distributable: true }],
  [dockerLayerZstd, { compression: "zstd", distributable: true }],
  ["application/vnd.docker.image.rootfs.foreign.diff.tar", { compression: "none", distributable: false }],
  [
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    { compression: "gzip", distributable: false },
  ],
]);

/** Whether it is a list of images for several platforms. */
export function isIndex(mediaType: string): boolean {
  return mediaType === ociIndex || mediaType === dockerIndex;
}

/** Whether it is a single image. */
export function isManifest(mediaType: string): boolean {
  return mediaType === ociManifest || mediaType === dockerManifest;
}

/** What kind of layer `mediaType` is; undefined if it is none that we know. */
export function layerType(mediaType: string): LayerType | undefined {
  return layerTypes.get(mediaType);
}

function* ociLayers(tar: string, distributable: boolean): Generator<[string, LayerType]> {
  yield [tar, { compression: "none", distributable }];
  yield [`${tar}+gzip`, { compression: "gzip", distributable }];
  yield [`${tar}+zstd`, { compression: "zstd", distributable }];
}
