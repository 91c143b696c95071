import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempDisposable, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { byteStringOf } from "./byte-string.ts";
import { type Collected, collect } from "./collect.ts";
import { blockBytes } from "./header.ts";
import { readPax, writePax } from "./pax.ts";
import { checkSegments, paxSparse, SparseMap } from "./sparse.ts";

const [realSizeBytes, holeBytes] = [8_000_000, 65_536];

/** A file of many segments, so that every form needs more than fits its first header, with a hole at its end. */
async function writeSparseFile(path: string): Promise<Buffer> {
  await using file = await open(path, "w+");
  for (let position = holeBytes; position < realSizeBytes - holeBytes; position += 2 * holeBytes) {
    await file.write(`data at ${position}`, position);
  }
  await file.truncate(realSizeBytes);
  const content = Buffer.alloc(realSizeBytes);
  await file.read(content, 0, content.length, 0);
  return content;
}

const forms = [
  { name: "old GNU", program: "tar", options: ["--format=gnu", "--sparse"] },
  { name: "PAX 0.0", program: "tar", options: ["--format=pax", "--sparse", "--sparse-version=0.0"] },
  { name: "PAX 0.1", program: "tar", options: ["--format=pax", "--sparse", "--sparse-version=0.1"] },
  { name: "PAX 1.0", program: "tar", options: ["--format=pax", "--sparse", "--sparse-version=1.0"] },
  { name: "bsdtar's", program: "bsdtar", options: ["--format=pax", "--read-sparse"] },
];

describe("TarReader", () => {
  for (const { name, program, options } of forms) {
    test(`reads sparse files of the ${name} form with their holes`, async () => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "sparse-"));
      const content = await writeSparseFile(join(directory.path, "sparse"));
      await (await open(join(directory.path, "after"), "w")).close();
      const maxBuffer = 2 * realSizeBytes;
      const args = [...options, "-C", directory.path, "-cf", "-", "sparse", "after"];
      const archive = execFileSync(program, args, { maxBuffer });
      assert(archive.length < realSizeBytes / 2, "the archive is sparse");

      const whole = collect([archive]);
      assertSparse(whole, content);
      const pieces = Array.from({ length: Math.ceil(archive.length / 777) }, (_, i) =>
        archive.subarray(i * 777, (i + 1) * 777),
      );
      assertSparse(collect(pieces), content);
    });
  }
});

function assertSparse(read: readonly Collected[], content: Buffer): void {
  assert.deepEqual(
    read.map(({ entry }) => [String(entry.name), entry.sizeBytes]),
    [
      ["sparse", realSizeBytes],
      ["after", 0],
    ],
  );
  const [sparse] = read;
  assert(sparse?.content.equals(content), "the content is the file's");
  assert((sparse?.segments.length ?? 0) > 21, "there is more than one extension header");
}

function assertInvalid(read: () => unknown, message: RegExp): void {
  assert.throws(read, (error) => error instanceof InvalidArgumentError && message.test(error.message));
}

describe("checkSegments", () => {
  const segments = [
    { position: 0, lengthBytes: 10 },
    { position: 20, lengthBytes: 5 },
  ];

  test("takes segments that follow one another", () => checkSegments(segments, 25, 15));

  const wrong = [
    { name: "stored bytes that no segment has", check: () => checkSegments(segments, 25, 16) },
    { name: "segments with more than is stored", check: () => checkSegments(segments, 25, 14) },
    { name: "a segment beyond the end", check: () => checkSegments(segments, 24, 15) },
    { name: "segments in another order", check: () => checkSegments(segments.toReversed(), 25, 15) },
    {
      name: "a length that overflows",
      check: () => checkSegments([{ position: 1, lengthBytes: Number.MAX_SAFE_INTEGER }], 25, 0),
    },
    { name: "a negative position", check: () => checkSegments([{ position: -1, lengthBytes: 1 }], 25, 1) },
    { name: "a negative length", check: () => checkSegments([{ position: 1, lengthBytes: -1 }], 25, -1) },
  ];
  for (const { name, check } of wrong) {
    test(`refuses ${name}`, () => assertInvalid(check, /Cannot read sparse file/));
  }
});

describe("paxSparse", () => {
  const sparse = (records: Record<string, string>) =>
    paxSparse(
      readPax(writePax(new Map(Object.entries(records).map(([key, value]) => [key, byteStringOf(value)])))),
    );

  test("finds nothing in records of an ordinary file", () => {
    assert.equal(sparse({ path: "name" }), undefined);
  });

  test("refuses a map with an offset without a length, one of nonsense, and one without a size", () => {
    assertInvalid(
      () => sparse({ "GNU.sparse.size": "9", "GNU.sparse.map": "1,2,3" }),
      /offset without a length/,
    );
    assertInvalid(() => sparse({ "GNU.sparse.size": "9", "GNU.sparse.map": "1,-2" }), /want a whole number/);
    assertInvalid(() => sparse({ "GNU.sparse.map": "1,2" }), /real size is missing/);
  });

  test("refuses more segments than the largest map that GNU tar writes of a sane file", () => {
    const map = Array.from({ length: 65_537 }, () => "0,0").join(",");
    assertInvalid(
      () => sparse({ "GNU.sparse.size": "9", "GNU.sparse.map": map }),
      /more than 65536 segments/,
    );
  });
});

describe("SparseMap", () => {
  const block = (text: string) => Buffer.from(text.padEnd(blockBytes, "\0"));

  test("reads a map that spans blocks", () => {
    const text = `100\n${Array.from({ length: 100 }, (_, i) => `${i * 1000}\n${i}\n`).join("")}`;
    const map = new SparseMap();
    const blocks = Math.ceil(text.length / blockBytes);
    for (let i = 0; i < blocks; i += 1) {
      const isLast = map.addBlock(block(text.slice(i * blockBytes, (i + 1) * blockBytes)), 0);
      assert.equal(isLast, i === blocks - 1);
    }
    assert.equal(map.segments.length, 100);
    assert.deepEqual(map.segments.at(-1), { position: 99_000, lengthBytes: 99 });
  });

  test("ends with a map, wants more, or a clear error for any block", () => {
    const likely = fc.array(fc.constantFrom("0", "1", "\n", "9007199254740993", "-"), { maxLength: 200 });
    fc.assert(
      fc.property(
        fc.oneof(
          likely.map((parts) => parts.join("")),
          fc.string(),
        ),
        (text) => {
          try {
            new SparseMap().addBlock(block(text.slice(0, 200)), 0);
          } catch (error) {
            assert(error instanceof InvalidArgumentError);
          }
        },
      ),
    );
  });
});
