import { createReadStream } from "node:fs";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Content } from "@oci-worker/api/containerd/content";
import { NotFoundError, ServiceError } from "@oci-worker/errdefs";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import type { BlobInfo, ContentStore } from "../content/store.ts";

/** Blobs in one message of a list, and bytes in one of a read. */
const infosPerMessage = 100;
const bytesPerMessage = 1024 * 1024;

/** Serves the reading half of containerd.services.content.v1.Content: what the worker holds, for other tooling. */
export function contentService(content: ContentStore): Partial<ServiceImpl<typeof Content>> {
  return {
    async info({ digest }) {
      return { info: infoToProto(await find(content, digest)) };
    },

    async *list() {
      let info = [];
      for await (const blob of content.list()) {
        info.push(infoToProto(blob));
        if (info.length === infosPerMessage) {
          yield { info };
          info = [];
        }
      }
      if (info.length > 0) {
        yield { info };
      }
    },

    async *read({ digest, offset, size }, { signal }) {
      const blob = await find(content, digest);
      const start = Number(offset);
      const end = size === 0n ? blob.sizeBytes : start + Number(size);
      if (start < 0 || end < start || end > blob.sizeBytes) {
        throw new ServiceError(
          "OUT_OF_RANGE",
          `Cannot read bytes ${start} to ${end} of ${digest}: it has ${blob.sizeBytes}`,
        );
      }
      let read = 0;
      const options = { start, end: end - 1, highWaterMark: bytesPerMessage, signal };
      for await (const data of end > start ? createReadStream(content.path(blob.digest), options) : []) {
        yield { offset: BigInt(read), data };
        read += data.length;
      }
    },
  };
}

async function find(content: ContentStore, text: string): Promise<BlobInfo> {
  const digest: Digest = parseDigest(text);
  const info = await content.info(digest);
  if (info === undefined) {
    throw new NotFoundError(`Cannot find content ${digest}: not found`);
  }
  return info;
}

function infoToProto({ digest, sizeBytes, createdAt }: BlobInfo) {
  const time = timestampFromDate(createdAt);
  return { digest, size: BigInt(sizeBytes), createdAt: time, updatedAt: time };
}
