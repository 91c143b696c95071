import { gzipSync, zstdCompressSync } from "node:zlib";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import { digestOf } from "@oci-worker/oci/digest";
import { gzipFooter } from "./footer/gzip-footer.ts";
import { skippableFrame, zstdFooter } from "./footer/zstd-footer.ts";

/** An eStargz blob, for tests: what is before the TOC, then `toc` as it is, whatever it is. */
export async function blobWithToc(
  toc: string | Buffer | object,
  content: Buffer = gzipSync("content"),
): Promise<Buffer> {
  return await blobWithTocMembers(
    [{ type: "file", name: "stargz.index.json", content: jsonOf(toc) }],
    content,
  );
}

/** The same, with `members` in the archive of the TOC. */
export async function blobWithTocMembers(
  members: TarMember[],
  content: Buffer = gzipSync("content"),
): Promise<Buffer> {
  const archive = Buffer.concat(await Array.fromAsync(writeTar(members)));
  return Buffer.concat([content, gzipSync(archive), gzipFooter(content.length)]);
}

/** A blob of zstd:chunked with the TOC `toc`. */
export function zstdBlobWithToc(
  toc: string | Buffer | object,
  content: Buffer,
  footerOf = zstdFooter,
): Buffer {
  const json = jsonOf(toc);
  const compressed = zstdCompressSync(json);
  return Buffer.concat([
    content,
    skippableFrame(compressed),
    footerOf(content.length + 8, compressed.length, json.length),
  ]);
}

/** A TOC with `entries`. */
export function tocOf(...entries: object[]): object {
  return { version: 1, entries };
}

/** The line for a file with `content` at `offset` of the blob. */
export function fileLine(name: string, content: Buffer, offset = 0): object {
  const digest = digestOf(content);
  return { name, type: "reg", size: content.length, mode: 0o644, offset, digest, chunkDigest: digest };
}

function jsonOf(toc: string | Buffer | object): Buffer {
  return Buffer.isBuffer(toc)
    ? toc
    : Buffer.from(typeof toc === "string" ? toc : JSON.stringify(toc, null, "\t"));
}
