import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { DataLossError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import {
  type Chunk,
  decompressMember,
  decompressMemberElsewhere,
  maxCompressedBytes,
  readChunk,
  verifiedChunk,
} from "./chunk.ts";
import { noise } from "./sample-layer.ts";

function chunkOf(content: Buffer, innerOffset = 0): Chunk {
  const digest = digestOf(content);
  return { fileOffset: 0, sizeBytes: content.length, digest, offset: 0, compressedBytes: 0, innerOffset };
}

const formats = [
  { name: "gzip", compress: (bytes: Buffer) => gzipSync(bytes) },
  { name: "zstd", compress: (bytes: Buffer) => zstdCompressSync(bytes) },
] as const;

const content = Buffer.concat([noise(40_000), Buffer.alloc(40_000, "text ")]);

describe("readChunk", () => {
  for (const { name, compress } of formats) {
    test(`${name}: gives the chunk, whatever follows it in its member`, () => {
      const member = compress(Buffer.concat([content, Buffer.alloc(1024), noise(3000, 5)]));
      assert(readChunk(chunkOf(content), name, member).equals(content));
    });

    test(`${name}: gives chunks that share a member`, () => {
      const [one, two] = [content.subarray(0, 5000), content.subarray(5000, 30_000)];
      const member = decompressMember(name, compress(content), 30_000);
      assert(verifiedChunk(chunkOf(one), member).equals(one));
      assert(verifiedChunk(chunkOf(two, 5000), member).equals(two));
    });

    test(`${name}: refuses a chunk that is shorter or longer than it should be`, () => {
      const member = compress(content);
      for (const sizeBytes of [content.length - 1, content.length + 1]) {
        const chunk = { ...chunkOf(content), sizeBytes };
        assert.throws(() => readChunk(chunk, name, member), {
          name: "DataLossError",
          message: /^Cannot read chunk at 0: /,
        });
      }
    });

    test(`${name}: refuses a member that is cut short, empty or something else`, () => {
      const member = compress(content);
      for (const bytes of [
        member.subarray(0, 30_000),
        member.subarray(0, 3),
        Buffer.alloc(0),
        noise(5000),
        Buffer.alloc(5000),
      ]) {
        assert.throws(() => readChunk(chunkOf(content), name, bytes), DataLossError);
      }
    });

    test(`${name}: refuses a flipped bit, wherever it matters`, () => {
      const small = Buffer.from("a small file, with some text, and some text again, and more of it");
      const member = compress(small);
      let errors = 0;
      for (let bit = 0; bit < member.length * 8; bit += 1) {
        const damaged = Buffer.from(member);
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        try {
          assert(readChunk(chunkOf(small), name, damaged).equals(small));
        } catch (error) {
          assert(error instanceof DataLossError, String(error));
          errors += 1;
        }
      }
      assert(errors > member.length * 4);
    });

    test(`${name}: takes no more of a bomb than it has to`, () => {
      const bomb = compress(Buffer.concat([content, Buffer.alloc(300 * 1024 * 1024)]));
      const before = process.memoryUsage().arrayBuffers;
      assert(readChunk(chunkOf(content), name, bomb).equals(content));
      // Not all of what the attempts took need be gone yet.
      assert(process.memoryUsage().arrayBuffers - before < 200 * 1024 * 1024);
    });

    test(`${name}: needs no more compressed bytes than what is fetched at most`, () => {
      const member = compress(Buffer.concat([content, noise(2_000_000, 9)]));
      const fetched = member.subarray(0, maxCompressedBytes(content.length));
      assert(fetched.length < member.length);
      assert(readChunk(chunkOf(content), name, fetched).equals(content));
    });
  }
});

describe("decompressMemberElsewhere", () => {
  for (const { name, compress } of formats) {
    test(`${name}: gives what is wanted, of pieces and of bombs, and meanwhile leaves the thread to others`, async () => {
      const large = Buffer.concat([noise(5_000_000), Buffer.alloc(5_000_000, "text ")]);
      const members = [large, Buffer.concat([large, Buffer.alloc(100 * 1024 * 1024)])].map(compress);
      let turns = 0;
      const turning = setInterval(() => {
        turns += 1;
      });
      for (const member of members) {
        assert((await decompressMemberElsewhere(name, member, large.length)).equals(large));
        assert((await decompressMemberElsewhere(name, member, 1000)).equals(large.subarray(0, 1000)));
      }
      clearInterval(turning);
      assert(turns > 0);
    });

    test(`${name}: gives as much as there is of a member that is cut short, and refuses something else`, async () => {
      const whole = compress(noise(1_000_000));
      const some = await decompressMemberElsewhere(name, whole.subarray(0, 600_000), 1_000_000);
      assert(some.length > 0 && some.equals(noise(1_000_000).subarray(0, some.length)));
      await assert.rejects(decompressMemberElsewhere(name, noise(5000), 5000), DataLossError);
    });
  }
});
