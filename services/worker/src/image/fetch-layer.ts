import { UnimplementedError } from "@oci-worker/errdefs";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { layerType } from "@oci-worker/oci/media-type";
import type { Repository } from "@oci-worker/registry/repository";
import type { ContentStore } from "../content/store.ts";
import type { VertexReport } from "../solver/vertex-report.ts";

/**
 * Gets the blob of a layer into the content store.
 *
 * @throws {UnimplementedError} if it is of a kind that we do not know.
 */
export async function fetchLayer(
  blob: Descriptor,
  repository: Repository,
  content: ContentStore,
  report: Pick<VertexReport, "row">,
  signal: AbortSignal,
): Promise<void> {
  if (layerType(blob.mediaType) === undefined) {
    throw new UnimplementedError(
      `Cannot fetch layer ${blob.digest}: its media type is ${blob.mediaType}, want a tar layer of OCI or Docker`,
    );
  }
  const row = report.row(blob.digest);
  await content.write(
    { digest: blob.digest, sizeBytes: blob.size },
    async (offset, shared) => repository.fetchBlob({ ...blob, offset }, shared),
    (sizeBytes) => row.update(sizeBytes, blob.size),
    signal,
  );
  row.update(blob.size, blob.size);
  row.complete();
}
