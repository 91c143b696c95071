import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { externalTocFooter, gzipFooter } from "./gzip-footer.ts";
import { footerBytes, parseFooter } from "./parse-footer.ts";
import { skippableFrame, zstdFooter } from "./zstd-footer.ts";

/** What eStargz grew out of: the offset without the header of a subfield. */
function legacyFooter(tocOffset: number): Buffer {
  const extra = Buffer.from(`${tocOffset.toString(16).padStart(16, "0")}STARGZ`);
  return Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, extra.length, 0]),
    extra,
    Buffer.from([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
  ]);
}

/** Podman's, with a place of a tar-split that nobody here looks at. */
function podmanFooter(tocOffset: number, compressedBytes: number, uncompressedBytes: number): Buffer {
  const footer = Buffer.alloc(64);
  for (const [index, number] of [tocOffset, compressedBytes, uncompressedBytes, 1, 900, 10, 20].entries()) {
    footer.writeBigUInt64LE(BigInt(number), index * 8);
  }
  footer.write("GNUlInUx", 56);
  return skippableFrame(footer);
}

const blobBytes = 5000;
const formats = [
  {
    footer: gzipFooter(0x3e8),
    bytes: 51,
    format: "eStargz",
    offset: 1000,
    sizeBytes: 5000 - 51 - 1000,
    contentEnd: 1000,
  },
  {
    footer: legacyFooter(1000),
    bytes: 47,
    format: "legacy stargz",
    offset: 1000,
    sizeBytes: 5000 - 47 - 1000,
    contentEnd: 1000,
  },
  {
    footer: zstdFooter(1008, 500, 4000),
    bytes: 48,
    format: "zstd:chunked",
    offset: 1008,
    sizeBytes: 500,
    contentEnd: 1000,
  },
  {
    footer: podmanFooter(1008, 500, 4000),
    bytes: 72,
    format: "zstd:chunked",
    offset: 1008,
    sizeBytes: 500,
    contentEnd: 1000,
  },
] as const;

/** The end of a blob that ends with `footer`. */
function tailWith(footer: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(200, 0xaa), footer]);
}

describe("parseFooter", () => {
  for (const { footer, bytes, format, offset, sizeBytes, contentEnd } of formats) {
    test(`reads the ${bytes} bytes of ${format}`, () => {
      assert.equal(footer.length, bytes);
      const parsed = parseFooter(tailWith(footer), blobBytes);
      assert.deepEqual(
        [parsed?.format, parsed?.toc?.offset, parsed?.toc?.sizeBytes, parsed?.contentEnd],
        [format, offset, sizeBytes, contentEnd],
      );
      assert.equal(parsed?.compression, format === "zstd:chunked" ? "zstd" : "gzip");
    });
  }

  test("tells a blob whose TOC is in another image", () => {
    assert.equal(externalTocFooter().length, 46);
    const parsed = parseFooter(tailWith(externalTocFooter()), blobBytes);
    assert.deepEqual(parsed, {
      format: "external TOC",
      compression: "gzip",
      toc: undefined,
      contentEnd: blobBytes - 46,
    });
  });

  test("writes what decompressors take for nothing", () => {
    const content = Buffer.from("content");
    for (const footer of [gzipFooter(7), externalTocFooter()]) {
      assert(gunzipSync(Buffer.concat([gzipSync(content), footer])).equals(content));
    }
    assert(
      zstdDecompressSync(Buffer.concat([zstdCompressSync(content), zstdFooter(1, 2, 3)])).equals(content),
    );
  });

  test("reads all that it asks for", () => {
    assert(formats.every(({ footer }) => footer.length <= footerBytes));
  });

  for (const { footer, bytes, format } of formats.slice(0, 2)) {
    test(`takes the ${bytes} bytes of ${format} with any wrong one for no footer`, () => {
      const digits = footer.indexOf("STARGZ") - 16;
      for (let at = 0; at < footer.length; at += 1) {
        for (const wrong of [0x00, 0x01, 0x80, 0xff]) {
          const damaged = Buffer.from(footer);
          damaged[at] = (damaged[at] ?? 0) ^ (wrong || 0x20);
          const isOffset = at >= digits && at < digits + 16;
          let parsed: unknown;
          try {
            parsed = parseFooter(tailWith(damaged), blobBytes);
          } catch (error) {
            // Another digit is another place.
            assert(isOffset && error instanceof InvalidArgumentError, String(error));
            continue;
          }
          assert(parsed === undefined || isOffset, `byte ${at}`);
        }
      }
    });
  }

  const places = [
    { name: "eStargz beyond the blob", footer: gzipFooter(5001) },
    { name: "eStargz at the footer", footer: gzipFooter(5000 - 51) },
    {
      name: "eStargz at 2^64-1",
      footer: Buffer.from(gzipFooter(0).toString("latin1").replace("0".repeat(16), "f".repeat(16)), "latin1"),
    },
    { name: "legacy within the footer", footer: legacyFooter(5000 - 47) },
    { name: "zstd beyond the blob", footer: zstdFooter(5000, 1, 1) },
    { name: "zstd longer than the blob", footer: zstdFooter(1000, 4001, 1) },
    { name: "zstd before its frame can begin", footer: zstdFooter(7, 10, 1) },
    { name: "zstd without bytes", footer: zstdFooter(1000, 0, 0) },
    { name: "zstd of 2^63 bytes", footer: zstdFooter(1000, 2 ** 63, 1) },
    { name: "zstd decompressed to 2^63 bytes", footer: zstdFooter(1000, 10, 2 ** 63) },
  ];
  for (const { name, footer } of places) {
    test(`refuses a TOC: ${name}`, () => {
      assert.throws(() => parseFooter(tailWith(footer), blobBytes), {
        name: "InvalidArgumentError",
        message: /^Cannot read .* footer: it puts a TOC of .* want a place before the footer$/,
      });
    });
  }

  test("makes of any bytes a footer, nothing or a clear error", () => {
    const damagedFooter = fc
      .tuple(
        fc.constantFrom(...formats.map(({ footer }) => footer), externalTocFooter()),
        fc.array(fc.tuple(fc.nat(71), fc.nat(255)), { maxLength: 5 }),
      )
      .map(([footer, changes]) => {
        const damaged = Buffer.from(footer);
        for (const [at, byte] of changes) {
          damaged[at % damaged.length] = byte;
        }
        return damaged;
      });
    const anything = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(damagedFooter, anything), fc.nat(10_000), (tail, size) => {
        try {
          const toc = parseFooter(tail, Math.max(size, tail.length))?.toc;
          assert(
            toc === undefined ||
              (toc.offset >= 0 && toc.offset + toc.sizeBytes <= Math.max(size, tail.length)),
          );
        } catch (error) {
          assert(error instanceof InvalidArgumentError, String(error));
        }
      }),
      { numRuns: 10_000 },
    );
  });
});
