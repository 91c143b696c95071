import { createReadStream } from "node:fs";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { hexOf } from "@oci-worker/oci/digest";
import { ociIndex } from "@oci-worker/oci/media-type";
import { parseReference } from "@oci-worker/oci/reference";
import type { ContentStore } from "../content/store.ts";
import type { WrittenImage } from "./image-writer.ts";

/** What is read of a blob at once. */
const pieceBytes = 256 * 1024;

/** On an image in the index of a layout: its full name, for containerd; its tag, for everybody (OCI image-spec, annotations.md). */
const [nameAnnotation, tagAnnotation] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/**
 * A tar archive with `image` as an OCI image layout (OCI image-spec, image-layout.md), its entries in the order of their names.
 *
 * @param isForDocker with the file besides that `docker load` reads.
 */
export function imageArchive(
  image: WrittenImage,
  content: Pick<ContentStore, "path">,
  isForDocker: boolean,
): AsyncGenerator<Uint8Array> {
  return writeTar(members(image, content, isForDocker));
}

/** The index of a layout with `image` alone: under each of its names, or nameless. */
function layoutIndex({ descriptor, names }: WrittenImage): Buffer {
  const manifests = names.length === 0 ? [descriptor] : names.map((name) => withName(descriptor, name));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests }));
}

function* members(
  image: WrittenImage,
  content: Pick<ContentStore, "path">,
  isForDocker: boolean,
): Generator<TarMember> {
  yield { type: "directory", name: "blobs" };
  yield { type: "directory", name: "blobs/sha256" };
  // One layer may be in there twice, an empty one above all.
  const blobs = new Map([image.descriptor, image.config, ...image.layers].map((blob) => [blob.digest, blob]));
  for (const [digest, { size }] of [...blobs].sort(([one], [other]) => (one < other ? -1 : 1))) {
    const read = createReadStreamLater(content.path(digest));
    yield { type: "file", name: blobName({ digest }), mode: 0o444, sizeBytes: size, content: read };
  }
  yield file("index.json", layoutIndex(image));
  if (isForDocker) {
    yield file("manifest.json", dockerManifestOf(image));
  }
  yield file("oci-layout", Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
}

function file(name: string, content: Buffer): TarMember {
  return { type: "file", name, mode: 0o444, content };
}

/** Opened when it is its turn: there may be more layers than files that can be open. */
async function* createReadStreamLater(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path, { highWaterMark: pieceBytes });
}

function dockerManifestOf({ config, layers, names }: WrittenImage): Buffer {
  const image = { Config: blobName(config), RepoTags: names, Layers: layers.map(blobName) };
  return Buffer.from(JSON.stringify([image]));
}

function blobName({ digest }: Pick<Descriptor, "digest">): string {
  return `blobs/sha256/${hexOf(digest)}`;
}

function withName(descriptor: Descriptor, name: string): Descriptor {
  const { tag, digest } = parseReference(name);
  const annotations = { [nameAnnotation]: name, [tagAnnotation]: tag ?? digest ?? name };
  return { ...descriptor, annotations: { ...descriptor.annotations, ...annotations } };
}
