import { type BuildOptions, buildLayer } from "@oci-worker/estargz/build";
import { readChunk } from "@oci-worker/estargz/chunk";
import { blobInMemory, type OpenLayer, openLayer } from "@oci-worker/estargz/open";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import type { LayerPlan } from "./plan/layer-plan.ts";

/** A layer for tests: its blob, and what the TOC in it says. */
export interface SampleLayer extends OpenLayer {
  readonly blob: Buffer;
}

/** Builds a layer of `members` and reads its TOC, as from a registry. */
export async function sampleLayer(
  members: Iterable<TarMember>,
  options: BuildOptions = {},
): Promise<SampleLayer> {
  const archive = Buffer.concat(await Array.fromAsync(writeTar(members, { exactTimes: true })));
  const pieces: Buffer[] = [];
  await buildLayer(
    { pieces: [archive], sizeBytes: archive.length },
    async (bytes) => pieces.push(bytes),
    options,
  );
  const blob = Buffer.concat(pieces);
  const layer = await openLayer(blobInMemory(blob), { trusted: undefined });
  if (layer === undefined) {
    throw new Error("the layer that was built has no TOC");
  }
  return { ...layer, blob };
}

/** The data device of a layer, complete. */
export function sampleData({ dataBlocks, chunks }: LayerPlan, { blob, compression }: SampleLayer): Buffer {
  const data = Buffer.alloc(dataBlocks * 4096);
  for (const { start, chunk } of chunks) {
    const compressed = blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes);
    data.set(readChunk(chunk, compression, compressed), start);
  }
  return data;
}
