import { createReadStream } from "node:fs";
import { FailedPreconditionError, ServiceError } from "@oci-worker/errdefs";
import { errorOf, statusOf } from "@oci-worker/errdefs/connect";
import { together } from "@oci-worker/flights/together";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import type { Digest } from "@oci-worker/oci/digest";
import type { Reference } from "@oci-worker/oci/reference";
import type { Repository } from "@oci-worker/registry/repository";
import type { ContentStore } from "../content/store.ts";
import type { ImageStore, RegistryContext } from "../image/image-store.ts";
import type { VertexReport } from "../solver/vertex-report.ts";
import type { WrittenImage } from "./image-writer.ts";

/** Blobs of one image that are pushed at a time. All pushes to a host share what its gate lets in at once. */
const concurrentBlobs = 4;

/** What is read of a blob at once. */
const pieceBytes = 256 * 1024;

/** Where an image goes. */
export interface PushTarget {
  /** With a tag, or under its digest alone. */
  readonly reference: Reference;
  /** As people know it, for errors. */
  readonly name: string;
  /** With any certificate, or without TLS. */
  readonly isInsecure: boolean;
  /** Images that were pushed before it: what they consist of need not be sent to the same registry again. */
  readonly before: readonly Reference[];
}

export interface PushParts {
  readonly images: ImageStore;
  readonly content: Pick<ContentStore, "path">;
}

export interface PushContext extends RegistryContext {
  readonly report: Pick<VertexReport, "row" | "log">;
}

/**
 * Pushes `image`, its manifest last: what has a name is complete.
 *
 * A blob that the registry has is not sent; one that it has in another repository, from which the layer was pulled or to which
 * it has just been pushed, is taken over from there. Nothing is undone after a failure: what is there then needs no sending the
 * next time.
 *
 * @throws what the registry says, with the name of the image.
 */
export async function pushImage(
  image: WrittenImage,
  target: PushTarget,
  { images, content }: PushParts,
  context: PushContext,
): Promise<void> {
  const { reference, name, isInsecure } = target;
  const { digest, mediaType } = image.descriptor;
  const { report, signal } = context;
  try {
    requireSameDigest(reference, digest);
    const repository = await images.target(reference, isInsecure, context);
    await pushBlobs(image, target, repository, content, context);
    const row = report.row(`pushing manifest for ${fullName(reference, digest)}`);
    const { tag } = reference;
    await repository.pushManifest(
      { mediaType, bytes: image.manifest, ...(tag !== undefined && { tag }) },
      signal,
    );
    row.complete();
  } catch (error) {
    if (error instanceof ServiceError && !signal.aborted) {
      const status = statusOf(error);
      throw errorOf({ ...status, message: `failed to push ${name}: ${status.message}` }, { cause: error });
    }
    throw error;
  }
}

/** Upstream leaves the tag of an image that is pushed by its digest out, and has both otherwise. */
function fullName({ domain, repository, tag }: Reference, digest: Digest): string {
  return `${domain}/${repository}${tag === undefined ? "" : `:${tag}@${digest}`}`;
}

/** A name with a digest is that of one image alone. */
function requireSameDigest({ digest: wanted }: Reference, digest: Digest): void {
  if (wanted !== undefined && wanted !== digest) {
    throw new FailedPreconditionError(`the image has digest ${digest}, want ${wanted} as its name says`);
  }
}

async function pushBlobs(
  image: WrittenImage,
  { reference, before }: PushTarget,
  repository: Repository,
  content: Pick<ContentStore, "path">,
  { report, signal }: PushContext,
): Promise<void> {
  const row = report.row("pushing layers");
  // One layer may be in there twice, an empty one above all.
  const blobs = [...new Map([...image.layers, image.config].map((blob) => [blob.digest, blob])).values()];
  const totalBytes = blobs.reduce((sum, { size }) => sum + size, 0);
  const sent = new Map<Digest, number>();
  const note = (digest: Digest, sentBytes: number) => {
    sent.set(digest, sentBytes);
    row.update(
      [...sent.values()].reduce((sum, bytes) => sum + bytes, 0),
      totalBytes,
    );
  };
  const push = async ({ digest, size }: Descriptor, ends: AbortSignal) => {
    const mountFrom = [...before, image.origins.get(digest)].find(
      (other) => other?.domain === reference.domain && other.repository !== reference.repository,
    )?.repository;
    const openPart = (offset: number, partBytes: number) =>
      bytesOf(content.path(digest), offset, partBytes, (sentBytes) => note(digest, sentBytes));
    const body = { sizeBytes: size, open: () => openPart(0, size), openPart };
    await repository.pushBlob({ digest, body, ...(mountFrom !== undefined && { mountFrom }) }, ends);
    note(digest, size);
  };
  await together(blobs, concurrentBlobs, push, signal);
  row.complete();
}

/**
 * A part of the file at `path`, which is opened when somebody wants it.
 *
 * @param onRead told how far in the file it has come.
 */
async function* bytesOf(
  path: string,
  offset: number,
  partBytes: number,
  onRead: (endBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  if (partBytes === 0) {
    return;
  }
  let endBytes = offset;
  const range = { start: offset, end: offset + partBytes - 1 };
  for await (const piece of createReadStream(path, { ...range, highWaterMark: pieceBytes })) {
    yield piece;
    endBytes += piece.length;
    onRead(endBytes);
  }
}
