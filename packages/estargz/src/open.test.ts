import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { DataLossError, ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { tocDigestOf } from "./annotations.ts";
import { readChunk } from "./chunk.ts";
import { externalTocFooter } from "./footer/gzip-footer.ts";
import { skippableFrame } from "./footer/zstd-footer.ts";
import { defaultLimits } from "./limits.ts";
import { blobInMemory, type OpenLayer, type OpenOptions, openLayer, type PartialBlob } from "./open.ts";
import { archiveOf, built, noise, sampleMembers } from "./sample-layer.ts";
import { blobWithToc, blobWithTocMembers, fileLine, tocOf, zstdBlobWithToc } from "./sample-toc.ts";
import { nodeAt, walk } from "./toc/tree.ts";

async function open(blob: Buffer, options: Partial<OpenOptions> = {}): Promise<OpenLayer> {
  const layer = await openLayer(blobInMemory(blob), { trusted: undefined, ...options });
  assert(layer !== undefined, "it is an ordinary layer");
  return layer;
}

/** `blob`, and which reads it has seen. */
function watched(blob: Buffer): PartialBlob & { reads: [number, number][] } {
  const inner = blobInMemory(blob);
  const reads: [number, number][] = [];
  return {
    reads,
    readTail: (maxBytes) => {
      reads.push([-1, maxBytes]);
      return inner.readTail(maxBytes);
    },
    read: (offset, sizeBytes) => {
      reads.push([offset, sizeBytes]);
      return inner.read(offset, sizeBytes);
    },
  };
}

describe("openLayer", () => {
  test("reads once if the TOC is in the tail, and twice if not", async () => {
    const { blob, annotations } = await built(await archiveOf(sampleMembers));
    const trusted = tocDigestOf(annotations);
    const once = watched(blob);
    assert(await openLayer(once, { trusted }));
    assert.equal(once.reads.length, 1);
    const twice = watched(blob);
    const layer = await openLayer(twice, { trusted, tailBytes: 100 });
    assert.equal(twice.reads.length, 2);
    assert.deepEqual(layer?.tree, (await openLayer(once, { trusted }))?.tree);
  });

  test("gives undefined for an ordinary layer", async () => {
    const archive = await archiveOf(sampleMembers);
    for (const blob of [archive, gzipSync(archive), zstdCompressSync(archive), Buffer.alloc(0)]) {
      assert.equal(await openLayer(blobInMemory(blob), { trusted: undefined }), undefined);
    }
  });

  for (const format of ["eStargz", "zstd:chunked"] as const) {
    test(`${format}: refuses a TOC that is not the one that is trusted`, async () => {
      const { blob, annotations, tocDigest } = await built(await archiveOf(sampleMembers), { format });
      const trusted = tocDigestOf(annotations);
      assert.deepEqual(trusted, { of: "JSON", digest: tocDigest });
      assert.equal((await open(blob, { trusted })).tocDigest, tocDigest);
      const other = digestOf("another TOC");
      for (const kind of ["JSON", "compressed JSON"] as const) {
        await assert.rejects(
          open(blob, { trusted: { of: kind, digest: other } }),
          (error) => error instanceof DataLossError && error.message.endsWith(`want ${other}`),
        );
      }
    });
  }

  test("trusts a TOC of zstd:chunked by its compressed digest, as podman does", async () => {
    const layer = await built(await archiveOf(sampleMembers), { format: "zstd:chunked" });
    const { "containerd.io/snapshot/stargz/toc.digest": _, ...podmans } = layer.annotations;
    const trusted = tocDigestOf(podmans);
    assert.equal(trusted?.of, "compressed JSON");
    assert.equal((await open(layer.blob, { trusted })).tocDigest, layer.tocDigest);
    assert.throws(() => tocDigestOf({ "containerd.io/snapshot/stargz/toc.digest": "md5:1" }), {
      name: "InvalidArgumentError",
      message: /^Cannot read annotation containerd.io\/snapshot\/stargz\/toc.digest: /,
    });
    assert.equal(tocDigestOf({ "containerd.io/snapshot/stargz/toc.digest": "" }), undefined);
  });

  test("reads podman's zstd:chunked: ends of chunks, holes, a tar-split frame in between", async () => {
    const [one, two] = [Buffer.from("first part,"), Buffer.from(" last part")];
    const frames = [one, two].map((part) => zstdCompressSync(part));
    const [first, second] = frames;
    assert(first && second);
    const hole = 5000;
    const sizeBytes = one.length + hole + two.length;
    const content = Buffer.concat([...frames, skippableFrame(Buffer.from("tar-split"))]);
    const toc = tocOf(
      {
        name: "f",
        type: "reg",
        size: sizeBytes,
        offset: 0,
        endOffset: first.length,
        chunkSize: one.length,
        chunkDigest: digestOf(one),
        accesstime: "2024-01-02T03:04:05.5+01:00",
        modtime: "2024-01-02T03:04:05.5+01:00",
      },
      { name: "f", type: "chunk", chunkOffset: one.length, chunkSize: hole, chunkType: "zeros" },
      {
        name: "f",
        type: "chunk",
        chunkOffset: one.length + hole,
        chunkSize: two.length,
        offset: first.length,
        endOffset: first.length + second.length,
        chunkDigest: digestOf(two),
      },
    );
    const footer = (offset: number, compressedBytes: number, uncompressedBytes: number) => {
      const long = Buffer.alloc(64);
      for (const [index, number] of [offset, compressedBytes, uncompressedBytes, 1, 1, 1, 1].entries()) {
        long.writeBigUInt64LE(BigInt(number), index * 8);
      }
      long.write("GNUlInUx", 56);
      return skippableFrame(long);
    };
    const blob = zstdBlobWithToc({ ...toc, tarSplitDigest: digestOf("x") }, content, footer);
    const layer = await open(blob);
    const file = nodeAt(layer.tree, "f");
    assert(file?.type === "file");
    assert.equal(file.modifiedNs, BigInt(Date.parse("2024-01-02T02:04:05.5Z")) * 1_000_000n);
    assert.deepEqual(
      file.chunks.map(({ fileOffset, sizeBytes: bytes }) => [fileOffset, bytes]),
      [
        [0, one.length],
        [one.length + hole, two.length],
      ],
    );
    const read = file.chunks.map((chunk) =>
      readChunk(
        chunk,
        layer.compression,
        blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes),
      ).toString(),
    );
    assert.deepEqual(read, [one.toString(), two.toString()]);
  });

  test("reads the TOC of another image where the footer says so", async () => {
    const member = gzipSync("content");
    const json = Buffer.from(JSON.stringify(tocOf(fileLine("f", Buffer.from("content")))));
    const tocLayer = gzipSync(await archiveOf([{ type: "file", name: "stargz.index.json", content: json }]));
    const blob = Buffer.concat([member, externalTocFooter()]);
    const trusted = { of: "JSON", digest: digestOf(json) } as const;
    await assert.rejects(open(blob, { trusted }), {
      name: "FailedPreconditionError",
      message: /another image/,
    });
    const layer = await open(blob, { trusted, readExternalToc: async () => tocLayer });
    const file = nodeAt(layer.tree, "f");
    assert(file?.type === "file" && layer.format === "external TOC");
    const [chunk] = file.chunks;
    assert(chunk);
    assert.equal(readChunk(chunk, "gzip", blob.subarray(0, chunk.compressedBytes)).toString(), "content");
  });

  test("makes an empty layer an empty root", async () => {
    for (const entries of ["[]", "null"]) {
      const { tree } = await open(await blobWithToc(`{"version":1,"entries":${entries}}`));
      assert.deepEqual([nodeAt(tree, "")?.mode, [...walk(tree)].length], [0o755, 1]);
    }
    const { tree } = await open((await built(await archiveOf([]))).blob);
    assert.deepEqual([[...walk(tree)].length, tree.prefetchBytes], [1, 0]);
  });

  test("takes JSON however it is written", async () => {
    const name = 'a"}]\\{[,\u00e9\u{1f600}';
    const text = JSON.stringify(tocOf({ name, type: "fifo" }, { name: "b/", type: "dir" }));
    for (const json of [
      text,
      JSON.stringify(JSON.parse(text), null, "\t "),
      text.replaceAll(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`),
    ]) {
      const { tree } = await open(await blobWithToc(json));
      assert.deepEqual(
        [...walk(tree)].map(({ path }) => path),
        ["", name, "b"],
      );
    }
  });

  test("skips what it does not know, as stargz-snapshotter does", async () => {
    const more = '"other":[{"name":"b","type":"fifo"}],"more":{"entries":[{}, [1e9, null, true]]}';
    const entry = `{"name":"a","type":"fifo","userName":"x",${more}}`;
    const { tree } = await open(await blobWithToc(`{${more},"version":1,"entries":[${entry}],"last":-0.5}`));
    assert.deepEqual(
      [...walk(tree)].map(({ path }) => path),
      ["", "a"],
    );
  });

  const json = JSON.stringify(tocOf({ name: "a", type: "fifo" }));
  const malformed = [
    { name: "bytes after the JSON", toc: `${json}x` },
    { name: "another document after the JSON", toc: `${json}${json}` },
    { name: "JSON that is cut short", toc: json.slice(0, -1) },
    { name: "no JSON", toc: "\x7fELF" },
    { name: "nothing", toc: "" },
    { name: "a list", toc: "[]" },
    { name: "another version", toc: '{"version":2,"entries":[]}' },
    { name: "no version", toc: '{"entries":[]}' },
    { name: "no entries", toc: '{"version":1}' },
    {
      name: "two lists of entries",
      toc: '{"version":1,"entries":[{"name":"a","type":"fifo"}],"entries":[]}',
    },
    { name: "an entry that is no object", toc: '{"version":1,"entries":[{"name":"a","type":"fifo"},1]}' },
    { name: "a text in place of an entry", toc: '{"version":1,"entries":["0"]}' },
    {
      name: "entries without a comma",
      toc: '{"version":1,"entries":[{"name":"a","type":"fifo"}{"name":"b","type":"fifo"}]}',
    },
    {
      name: "a name that is not UTF-8",
      toc: Buffer.from('{"version":1,"entries":[{"name":"\xff","type":"fifo"}]}', "latin1"),
    },
  ];
  for (const { name, toc } of malformed) {
    test(`refuses a TOC: ${name}`, async () => {
      await assert.rejects(open(await blobWithToc(toc)), { name: "InvalidArgumentError" });
    });
  }

  const member = (name: string) => ({ type: "file", name, content: Buffer.from(json) }) as const;
  test("refuses a TOC that is not the one file of its archive", async () => {
    for (const members of [
      [member("other.json")],
      [member("stargz.index.json"), member("stargz.index.json")],
      [member("stargz.index.json"), member("x")],
      [{ type: "symlink", name: "stargz.index.json", linkName: "x" } as const],
      [],
    ]) {
      await assert.rejects(open(await blobWithTocMembers(members)), {
        name: "InvalidArgumentError",
        message: /Cannot read TOC/,
      });
    }
  });

  test("refuses a TOC over a limit, whatever is trusted", async () => {
    const entries = Array.from({ length: 1000 }, (_, index) => ({ name: `f${index}`, type: "fifo" }));
    const blob = await blobWithToc(tocOf(...entries));
    assert.equal((await open(blob)).tree.nodes.count, 1001);
    const limits = [{ maxEntries: 999 }, { maxTocBytes: 20_000 }, { maxCompressedTocBytes: 1000 }];
    for (const limit of limits) {
      for (const trusted of [undefined, { of: "JSON", digest: (await open(blob)).tocDigest } as const]) {
        await assert.rejects(
          open(blob, { trusted, limits: { ...defaultLimits, ...limit } }),
          ResourceExhaustedError,
        );
      }
    }
    const padding = `${" ".repeat(70_000)}1`;
    await assert.rejects(
      open(await blobWithToc(`{"version":${padding},"entries":[]}`)),
      ResourceExhaustedError,
    );
    const long = { name: "a", type: "fifo", xattrs: { "user.x": "A".repeat(2_000_000) } };
    await assert.rejects(open(await blobWithToc(tocOf(long))), ResourceExhaustedError);
  });

  test("stops decompressing a TOC that is a bomb", async () => {
    const bomb = await blobWithToc(Buffer.alloc(200 * 1024 * 1024, 0x20));
    const before = process.memoryUsage().arrayBuffers;
    await assert.rejects(open(bomb), { name: "ResourceExhaustedError", message: /want at most 157286400/ });
    assert(process.memoryUsage().arrayBuffers - before < 64 * 1024 * 1024);
  });

  test("gives with one flipped bit anywhere the same files or a clear error", async () => {
    for (const format of ["eStargz", "zstd:chunked"] as const) {
      const members = [
        ...sampleMembers.filter(({ name }) => !name.toString().startsWith("lib/")),
        { type: "file", name: "lib/big", content: noise(3000) } as const,
      ];
      const { blob, annotations } = await built(await archiveOf(members), { format, chunkBytes: 1000 });
      const trusted = tocDigestOf(annotations);
      const wanted = await contents(blob, trusted);
      await fc.assert(
        fc.asyncProperty(fc.nat(blob.length * 8 - 1), async (bit) => {
          const damaged = Buffer.from(blob);
          damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          try {
            const got = await contents(damaged, trusted);
            assert.deepEqual(got, got === undefined ? undefined : wanted);
          } catch (error) {
            assert(error instanceof ServiceError, String(error));
          }
        }),
        { numRuns: 500 },
      );
    }
  });
});

/** Everything in a layer, as text; undefined if it is taken for an ordinary one. */
async function contents(blob: Buffer, trusted: OpenOptions["trusted"]): Promise<string[] | undefined> {
  const layer = await openLayer(blobInMemory(blob), { trusted });
  if (layer === undefined) {
    return undefined;
  }
  return [...walk(layer.tree)].map(({ path, node }) => {
    const chunks = node.type === "file" ? node.chunks : [];
    const parts = chunks.map((chunk) =>
      readChunk(
        chunk,
        layer.compression,
        blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes),
      ).toString("latin1"),
    );
    return `${path} ${node.type} ${node.mode} ${node.uid} ${node.modifiedNs} ${parts.join("")}`;
  });
}
