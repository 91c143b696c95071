import assert from "node:assert/strict";
import { test } from "node:test";
import { createZstdCompress } from "node:zlib";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { skippableFrame, zstdFooter } from "./footer/zstd-footer.ts";
import { defaultLimits } from "./limits.ts";
import { blobInMemory, openLayer } from "./open.ts";

const digest = digestOf("content");
const linesAtATime = 10_000;

/** A layer with so many files, made piece by piece: neither its TOC nor what makes it is in memory as a whole. */
async function layerWith(files: number): Promise<Buffer> {
  let jsonBytes = 0;
  const compressor = createZstdCompress();
  const compressed = Array.fromAsync(compressor as AsyncIterable<Buffer>);
  const write = async (text: string) => {
    jsonBytes += text.length;
    await new Promise((resolve) => compressor.write(text, resolve));
  };
  await write('{"version":1,"entries":[');
  for (let first = 0; first < files; first += linesAtATime) {
    const lines = Array.from({ length: Math.min(linesAtATime, files - first) }, (_, index) => {
      const number = first + index;
      const comma = number === 0 ? "" : ",";
      return `${comma}{"name":"d${number % 1000}/f${number}","type":"reg","size":1,"chunkDigest":"${digest}"}`;
    });
    await write(lines.join(""));
  }
  await write("]}");
  compressor.end();
  const content = Buffer.alloc(100);
  const toc = Buffer.concat(await compressed);
  const footer = zstdFooter(content.length + 8, toc.length, jsonBytes);
  return Buffer.concat([content, skippableFrame(toc), footer]);
}

/** By how much the most memory that this process has ever had grows during `action`, in MiB. */
async function growthOf(action: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss();
  await action();
  return process.resourceUsage().maxRSS / 1024 - before / 1024 / 1024;
}

test("a million entries are refused, whatever else is right, and as many as are allowed take little memory", async () => {
  const million = await layerWith(1_000_000);
  const grownByRefusal = await growthOf(() =>
    assert.rejects(openLayer(blobInMemory(million), { trusted: undefined }), (error) => {
      assert(error instanceof ResourceExhaustedError);
      return /more than 500000 entries, the most that is allowed$/.test(error.message);
    }),
  );
  const most = await layerWith(defaultLimits.maxEntries);
  const grown = await growthOf(async () => {
    const layer = await openLayer(blobInMemory(most), { trusted: undefined });
    // The root and a thousand directories that nobody mentions.
    assert.equal(layer?.tree.nodes.count, defaultLimits.maxEntries + 1001);
  });
  // Columns and names of half a million files are 90 MB, twice that while they grow; objects were a gigabyte.
  assert(grown < 400 && grownByRefusal < 400, `grown by ${grown} MiB, by ${grownByRefusal} MiB when refused`);
});
