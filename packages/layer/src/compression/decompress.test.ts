import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { decompress } from "./decompress.ts";
import { type Compression, detectCompression } from "./detect.ts";

/** Cuts `bytes` into pieces, so that the borders of members, frames and blocks fall anywhere. */
function cut(bytes: Buffer, pieceBytes: number): Buffer[] {
  const count = Math.ceil(bytes.length / pieceBytes);
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * pieceBytes, (i + 1) * pieceBytes));
}

function open(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  const compression = detectCompression(bytes);
  assert(compression !== "none");
  return decompress(compression, cut(bytes, pieceBytes), bytes.length);
}

async function decompressed(bytes: Buffer, pieceBytes = 1000): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(open(bytes, pieceBytes)));
}

/** Compresses a little, as programs do. */
const content = Buffer.from(
  Array.from({ length: 6_000 }, (_, i) => 0x40 + (((i * i * 2_654_435_761) >>> 26) % 24)),
);
/** A skippable frame (RFC 8878, 3.1.2). */
const skippable = Buffer.concat([Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]), Buffer.from("skip")]);

const formats = [
  { name: "gzip", compress: (bytes: Buffer) => gzipSync(bytes) },
  { name: "zstd", compress: (bytes: Buffer) => zstdCompressSync(bytes) },
];

describe("decompress", () => {
  for (const { name, compress } of formats) {
    const blob = compress(content);

    test(`${name}: gives the content, however it comes in pieces`, async () => {
      for (const pieceBytes of [1, 7, 1000, blob.length, blob.length + 1]) {
        assert((await decompressed(blob, pieceBytes)).equals(content));
      }
    });

    test(`${name}: gives all that follow one another, wherever pieces end`, async () => {
      const blobs = Buffer.concat([blob, compress(Buffer.alloc(0)), blob]);
      for (const pieceBytes of [1, 1000, blob.length, blobs.length]) {
        assert((await decompressed(blobs, pieceBytes)).equals(Buffer.concat([content, content])));
      }
    });

    test(`${name}: refuses what is cut short, anywhere`, async () => {
      for (const length of [20, 1000, blob.length - 9, blob.length - 1, blob.length + 20]) {
        const short = Buffer.concat([blob, blob]).subarray(0, length);
        await assert.rejects(decompressed(short), InvalidArgumentError);
      }
    });

    test(`${name}: refuses corrupt data`, async () => {
      const corrupt = Buffer.from(blob);
      // Where both have the head of a block. Deeper in it zstd, without checksums, may just give other data.
      corrupt.fill(0xff, 9, 14);
      await assert.rejects(
        decompressed(corrupt),
        (error) =>
          error instanceof InvalidArgumentError && error.message.startsWith(`Cannot decompress ${name}: `),
      );
    });

    const trailers = [
      Buffer.from("garbage"),
      Buffer.alloc(100),
      Buffer.from([0x1f]),
      Buffer.from("\x1f\x8b\x08 no"),
      Buffer.alloc(5000, "x"),
    ];
    for (const trailer of trailers) {
      test(`${name}: refuses ${JSON.stringify(trailer.toString("latin1", 0, 8))} behind the data`, async () => {
        for (const pieceBytes of [1, blob.length, blob.length + trailer.length]) {
          await assert.rejects(
            decompressed(Buffer.concat([blob, trailer]), pieceBytes),
            InvalidArgumentError,
          );
        }
      });
    }

    test(`${name}: decompresses no more than is asked for`, async () => {
      const bomb = compress(Buffer.alloc(256 * 1024 * 1024));
      const pieces = open(bomb, 4096);
      const before = process.memoryUsage().arrayBuffers;
      assert(((await pieces.next()).value?.length ?? 0) > 0);
      assert(process.memoryUsage().arrayBuffers - before < 32 * 1024 * 1024);
      await pieces.return(undefined);
    });

    test(`${name}: ends with data or a clear error when bytes are changed`, async () => {
      const small = compress(content.subarray(0, 5000));
      const change = fc.tuple(fc.integer({ min: 4, max: small.length - 1 }), fc.nat(255));
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
          const damaged = Buffer.from(small);
          for (const [at, byte] of changes) {
            damaged[at] = byte;
          }
          try {
            await decompressed(damaged);
          } catch (error) {
            assert(error instanceof InvalidArgumentError, String(error));
          }
        }),
      );
    });
  }

  test("zstd: skips skippable frames before, between and after others", async () => {
    const blob = zstdCompressSync(content);
    const bytes = Buffer.concat([skippable, blob, skippable, skippable, blob, skippable]);
    for (const pieceBytes of [1, 12, bytes.length]) {
      assert((await decompressed(bytes, pieceBytes)).equals(Buffer.concat([content, content])));
    }
  });

  test("passes on the error of who reads the pieces", async () => {
    function* pieces() {
      yield gzipSync(content).subarray(0, 100);
      throw new RangeError("broken disk");
    }
    await assert.rejects(Array.fromAsync(decompress("gzip", pieces(), 1000)), RangeError);
  });
});

describe("detectCompression", () => {
  const cases: { name: string; start: number[]; want: Compression }[] = [
    { name: "gzip", start: [0x1f, 0x8b, 8, 0], want: "gzip" },
    { name: "zstd", start: [0x28, 0xb5, 0x2f, 0xfd], want: "zstd" },
    { name: "the first skippable frame of zstd", start: [0x50, 0x2a, 0x4d, 0x18], want: "zstd" },
    { name: "the last skippable frame of zstd", start: [0x5f, 0x2a, 0x4d, 0x18], want: "zstd" },
    { name: "nothing behind the skippable frames", start: [0x60, 0x2a, 0x4d, 0x18], want: "none" },
    { name: "no bytes", start: [], want: "none" },
    { name: "too few bytes", start: [0x1f, 0x8b], want: "none" },
    { name: "a name", start: [0x65, 0x74, 0x63, 0x2f], want: "none" },
  ];
  for (const { name, start, want } of cases) {
    test(`sees ${name}`, () => assert.equal(detectCompression(Buffer.from(start)), want));
  }
});
