import { parseDigest } from "@oci-worker/oci/digest";
import type { ContentStore } from "../content/store.ts";
import type { BuildBlob } from "./build-record.ts";

/** Where an exporter of images tells which manifest or index it has made: a descriptor, as JSON in base64. */
const descriptorKey = "containerimage.descriptor";

/** What a build has exported, if it says so and the content store has it. */
export async function exportedBlob(
  response: Readonly<Record<string, string>>,
  content: Pick<ContentStore, "info">,
): Promise<BuildBlob | undefined> {
  const encoded = response[descriptorKey];
  if (encoded === undefined) {
    return undefined;
  }
  const descriptor = JSON.parse(Buffer.from(encoded, "base64").toString());
  const digest = parseDigest(String(descriptor.digest));
  const info = await content.info(digest);
  return info && { digest, mediaType: String(descriptor.mediaType), sizeBytes: info.sizeBytes };
}
