import { gunzipSync } from "node:zlib";
import { digestOf } from "@oci-worker/oci/digest";
import type { ImageLayerContent } from "./image.ts";

/** Of the footer of an eStargz: the place of the table of contents, in hexadecimal digits, begins at byte 16 of it. */
const [footerBytes, offsetAt, offsetDigits] = [51, 16, 16];

/** An empty gzip member that says that the table of contents is elsewhere (estargz/externaltoc of stargz-snapshotter). */
const externalFooter = Buffer.concat([
  Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 21, 0, 0x53, 0x47, 17, 0]),
  Buffer.from("STARGZEXTERNALTOC"),
  Buffer.from([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
]);

/**
 * Takes the table of contents out of an eStargz layer.
 *
 * @returns what is left of it, and a layer for the image that has the tables of contents of another one.
 */
export function withExternalToc({ blob, descriptor }: ImageLayerContent): {
  readonly layer: ImageLayerContent;
  readonly toc: ImageLayerContent;
} {
  const footer = blob.subarray(-footerBytes);
  const offset = Number.parseInt(footer.toString("latin1", offsetAt, offsetAt + offsetDigits), 16);
  const rest = Buffer.concat([blob.subarray(0, offset), externalFooter]);
  const toc = blob.subarray(offset, -footerBytes);
  const layer = {
    blob: rest,
    descriptor: { ...descriptor, digest: digestOf(rest), size: rest.length },
    diffID: digestOf(gunzipSync(rest)),
  };
  return {
    layer,
    toc: {
      blob: toc,
      descriptor: {
        mediaType: descriptor.mediaType,
        digest: digestOf(toc),
        size: toc.length,
        annotations: { "containerd.io/snapshot/stargz/layer.digest": layer.descriptor.digest },
      },
      diffID: digestOf(gunzipSync(toc)),
    },
  };
}
