import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { defaultLimits } from "../limits.ts";
import { fileLine } from "../sample-toc.ts";
import { TocEntry } from "./entry.ts";
import { TocJson } from "./toc-json.ts";
import { type LayerTree, nodeAt, walk } from "./tree.ts";
import { TreeBuilder } from "./tree-builder.ts";

const contentEnd = 1000;

function treeOf(...lines: object[]): LayerTree {
  const builder = new TreeBuilder(contentEnd, { ...defaultLimits, maxMemberBytes: 5000, maxEntries: 5000 });
  const entry = new TocEntry();
  const toc = new TocJson((fields, index) => {
    entry.read(fields, index);
    builder.add(entry);
  }, lines.length);
  toc.write(Buffer.from(JSON.stringify({ version: 1, entries: lines })));
  toc.end();
  return builder.finish();
}

/** Paths and types, for reading. */
function shape(tree: LayerTree): Record<string, string> {
  return Object.fromEntries([...walk(tree)].map(({ path, node }) => [path, node.type]));
}

const fifo = (name: string) => ({ name, type: "fifo" });
const dir = (name: string, more: object = {}) => ({ name, type: "dir", mode: 0o700, ...more });
const link = (name: string, linkName: string) => ({ name, type: "hardlink", linkName });
const file = (name: string, text = "content", offset = 0) => fileLine(name, Buffer.from(text), offset);
const digest = digestOf("x");

describe("TreeBuilder", () => {
  test("makes directories that nobody mentions, mode 0755", () => {
    const tree = treeOf(fifo("a/b/c"), dir("a/"));
    assert.deepEqual(shape(tree), { "": "directory", a: "directory", "a/b": "directory", "a/b/c": "fifo" });
    assert.equal(nodeAt(tree, "a/b")?.mode, 0o755);
    assert.equal(nodeAt(tree, "/a/")?.mode, 0o700);
  });

  test("gives the root what the layer says of it", () => {
    for (const name of ["", "./", "/"]) {
      assert.equal(nodeAt(treeOf(dir(name, { uid: 7 })), "")?.uid, 7);
    }
  });

  test("makes what has several names one node", () => {
    const tree = treeOf(file("f"), link("d/g", "f"), link("h", "./f"), dir("d/e"));
    assert.equal(nodeAt(tree, "f"), nodeAt(tree, "h"));
    assert.equal(nodeAt(tree, "f"), nodeAt(tree, "d/g"));
  });

  test("takes the last of a name, and keeps what is in a directory that comes again", () => {
    assert.equal(nodeAt(treeOf({ ...fifo("a"), mode: 1 }, { ...fifo("./a"), mode: 2 }), "a")?.mode, 2);
    assert.deepEqual(shape(treeOf(fifo("d/x"), dir("d", { mode: 0o711 }))), {
      "": "directory",
      d: "directory",
      "d/x": "fifo",
    });
    assert.deepEqual(shape(treeOf(fifo("d/x"), fifo("d"))), { "": "directory", d: "fifo" });
    assert.deepEqual(shape(treeOf(fifo("d/e/x"), fifo("d"), dir("d"), fifo("d/e/y"))), {
      "": "directory",
      d: "directory",
      "d/e": "directory",
      "d/e/y": "fifo",
    });
  });

  test("links to what the target was when the link came, or to what comes later", () => {
    const tree = treeOf(
      { ...file("f"), uid: 1 },
      link("g", "f"),
      { ...file("f"), uid: 2 },
      link("i", "h"),
      link("h", "k"),
      file("k"),
    );
    assert.deepEqual([nodeAt(tree, "g")?.uid, nodeAt(tree, "f")?.uid], [1, 2]);
    assert.equal(nodeAt(tree, "i"), nodeAt(tree, "k"));
    assert.equal(nodeAt(tree, "h"), nodeAt(tree, "k"));
    assert.deepEqual(Object.keys(shape(treeOf(file("f"), link("f", "f")))), ["", "f"]);
  });

  test("hides landmarks, and tells where prefetching ends", () => {
    const landmark = (name: string) => fileLine(name, Buffer.from([0x0f]), 77);
    const tree = treeOf(file("a"), landmark(".prefetch.landmark"), file("b", "content", 90));
    assert.deepEqual(Object.keys(shape(tree)), ["", "a", "b"]);
    assert.equal(tree.prefetchBytes, 77);
    assert.equal(treeOf(landmark(".no.prefetch.landmark")).prefetchBytes, 0);
    assert.equal(treeOf(file("a")).prefetchBytes, undefined);
    assert.deepEqual(Object.keys(shape(treeOf(landmark("d/.prefetch.landmark")))), [
      "",
      "d",
      "d/.prefetch.landmark",
    ]);
  });

  test("makes of whiteouts nodes that hide and directories that are opaque", () => {
    const tree = treeOf(
      fifo("d/.wh.a"),
      fifo(".wh.real"),
      fifo("real"),
      fifo(".wh.e"),
      fifo("e/x"),
      fifo("o/.wh..wh..opq"),
      fifo(".wh..wh.plnk"),
      fifo(".wh."),
    );
    assert.deepEqual(shape(tree), {
      "": "directory",
      d: "directory",
      "d/a": "whiteout",
      real: "fifo",
      e: "directory",
      "e/x": "fifo",
      o: "directory",
    });
    const isOpaque = (path: string) => {
      const node = nodeAt(tree, path);
      return node?.type === "directory" && node.isOpaque;
    };
    assert.deepEqual(["", "d", "e", "o"].map(isOpaque), [false, false, true, true]);
  });

  test("puts chunks together, and bounds what is read for each by the next", () => {
    const tree = treeOf(
      { name: "f", type: "reg", size: 30, offset: 10, chunkSize: 20, chunkDigest: digest },
      { name: "f", type: "chunk", offset: 50, chunkOffset: 20, chunkDigest: digest },
      { ...file("g", "shares", 50), innerOffset: 10 },
      file("h", "last", 600),
      { name: "empty", type: "reg", digest },
    );
    const chunksOf = (path: string) => {
      const node = nodeAt(tree, path);
      assert(node?.type === "file");
      return node.chunks.map((chunk) => [
        chunk.fileOffset,
        chunk.sizeBytes,
        chunk.offset,
        chunk.compressedBytes,
        chunk.innerOffset,
      ]);
    };
    assert.deepEqual(chunksOf("f"), [
      [0, 20, 10, 40, 0],
      [20, 10, 50, 550, 0],
    ]);
    assert.deepEqual(chunksOf("g"), [[0, 6, 50, 550, 10]]);
    assert.deepEqual(chunksOf("h"), [[0, 4, 600, 400, 0]]);
    assert.deepEqual(chunksOf("empty"), []);
  });

  test("reads attributes, with names of any characters", () => {
    const xattrs = { "\\": "YQ==", '"': "Yg==", "user.\u00e9": "", "user.z": "/+8=" };
    const node = nodeAt(treeOf({ ...fifo("a"), xattrs }, { ...fifo("b"), xattrs: null }), "a");
    const values = [...(node?.xattrs ?? [])].map(([name, value]) => [name, value.toString("hex")]);
    assert.deepEqual(values, [
      ["\\", "61"],
      ['"', "62"],
      ["user.\u00e9", ""],
      ["user.z", "ffef"],
    ]);
  });

  const times: [text: string, ns: bigint][] = [
    ["1970-01-01T00:00:00Z", 0n],
    ["2024-02-29T23:59:59Z", 1_709_251_199_000_000_000n],
    ["2000-03-01T00:00:00Z", 951_868_800_000_000_000n],
    ["2024-01-02T03:04:05.5+01:00", 1_704_161_045_500_000_000n],
    ["1969-12-31T23:59:59.000000001Z", -999_999_999n],
    ["0001-01-01T00:00:00Z", -62_135_596_800_000_000_000n],
    ["9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999_999n],
  ];
  for (const [modtime, ns] of times) {
    test(`reads the time ${modtime}`, () => {
      assert.equal(nodeAt(treeOf({ ...fifo("a"), modtime }), "a")?.modifiedNs, ns);
    });
  }

  test("reads times as the language does", () => {
    const days = fc.date({ min: new Date(0), max: new Date("2500-01-01"), noInvalidDate: true });
    fc.assert(
      fc.property(days, (date) => {
        const modtime = date.toISOString().replace(/\.\d+Z/, "Z");
        const ns = BigInt(Date.parse(modtime)) * 1_000_000n;
        assert.equal(nodeAt(treeOf({ ...fifo("a"), modtime }), "a")?.modifiedNs, ns);
      }),
      { numRuns: 500, seed: 20_261_127 },
    );
  });

  test("refuses names that make more directories than the entries that are allowed", () => {
    const deep = (index: number) => fifo(`${index}/${"x/".repeat(1000)}f`);
    assert.throws(
      () => treeOf(...Array.from({ length: 6 }, (_, index) => deep(index))),
      ResourceExhaustedError,
    );
  });

  test("gives the same numbers to the same TOC", () => {
    const lines = [file("a/b"), link("c", "a/b"), dir("z"), fifo("a/y")];
    const numbers = () => [...walk(treeOf(...lines))].map(({ path, node }) => [path, node.index]);
    assert.deepEqual(numbers(), numbers());
    assert.equal(new Set([...walk(treeOf(...lines))].map(({ node }) => node.index)).size, 5);
  });

  const chunk = { name: "f", type: "reg", size: 30, offset: 10, chunkSize: 20, chunkDigest: digest };
  const next = { name: "f", type: "chunk", offset: 50, chunkOffset: 20, chunkDigest: digest };
  const refused: { name: string; lines: object[]; message: RegExp }[] = [
    {
      name: "a name that climbs out",
      lines: [fifo("../etc/passwd")],
      message: /entries\[0\]\.name: Cannot use "\.\.\/etc\/passwd" as a name/,
    },
    { name: "a name that climbs out later", lines: [fifo("a/../../b")], message: /below the root/ },
    { name: "a NUL in a name", lines: [fifo("a\0b")], message: /without NUL/ },
    {
      name: "a component of 256 bytes",
      lines: [fifo(`a/${"x".repeat(256)}`)],
      message: /255 between slashes/,
    },
    {
      name: "a component of 86 characters with 258 bytes",
      lines: [fifo("\u20ac".repeat(86))],
      message: /255 between slashes/,
    },
    {
      name: "a path of 4096 bytes",
      lines: [fifo("x/".repeat(2047).concat("xx"))],
      message: /at most 4095 bytes/,
    },
    { name: "half a surrogate in a name", lines: [fifo("\ud800")], message: /of UTF-8/ },
    { name: "no name", lines: [{ type: "fifo" }], message: /name: it is missing/ },
    {
      name: "a type that is unknown",
      lines: [{ name: "a", type: "socket" }],
      message: /type: it is "socket", want one of reg, dir/,
    },
    {
      name: "a type that every object has",
      lines: [{ name: "a", type: "toString" }],
      message: /want one of/,
    },
    { name: "a file as root", lines: [fifo("./")], message: /"\/" is a fifo, want a directory/ },
    {
      name: "a file beneath a file",
      lines: [file("a"), fifo("a/b")],
      message: /"a" to have|"a" is to have files in it, but "a" is a file/,
    },
    {
      name: "a file beneath a link",
      lines: [{ name: "a", type: "symlink", linkName: "/etc" }, fifo("a/b/c")],
      message: /but "a" is a symlink/,
    },
    { name: "a second TOC", lines: [file("./stargz.index.json")], message: /a second time/ },
    {
      name: "a hard link to nothing",
      lines: [link("a", "b")],
      message: /"a" is a hard link to "b", which is not in the layer/,
    },
    {
      name: "a hard link to a directory",
      lines: [dir("d"), link("a", "d")],
      message: /which is a directory/,
    },
    { name: "a hard link to the root", lines: [link("a", "/")], message: /which is a directory/ },
    {
      name: "hard links in a circle",
      lines: [link("a", "b"), link("b", "c"), link("c", "a")],
      message: /leads back to itself/,
    },
    {
      name: "a hard link without a target",
      lines: [{ name: "a", type: "hardlink" }],
      message: /linkName: it is missing/,
    },
    {
      name: "an empty symbolic link",
      lines: [{ name: "a", type: "symlink", linkName: "" }],
      message: /linkName: want 1 to 4095 bytes/,
    },
    {
      name: "a negative size",
      lines: [{ ...chunk, size: -1 }],
      message: /size: it is a number, want a whole number/,
    },
    { name: "a size beyond 2^53", lines: [{ ...chunk, size: 2 ** 60 }], message: /size/ },
    { name: "a negative offset", lines: [{ ...chunk, offset: -5 }, next], message: /offset/ },
    {
      name: "an offset beyond the content",
      lines: [{ ...file("f"), offset: contentEnd }],
      message: /want a place before 1000/,
    },
    {
      name: "an end before the beginning",
      lines: [{ ...file("f", "x", 20), endOffset: 20 }],
      message: /at 20 to 20 of the blob/,
    },
    {
      name: "an end beyond the content",
      lines: [{ ...file("f"), endOffset: 1001 }],
      message: /want a place before 1000/,
    },
    { name: "a file without its last chunk", lines: [chunk], message: /has chunks for 20 bytes, want 30/ },
    {
      name: "a gap between chunks",
      lines: [chunk, { ...next, chunkOffset: 21 }],
      message: /at 21, want one of 1 to 10 at 20/,
    },
    {
      name: "chunks that overlap",
      lines: [chunk, { ...next, chunkOffset: 19 }],
      message: /at 19, want one of 1 to 10 at 20/,
    },
    {
      name: "chunks in the wrong order",
      lines: [
        { ...chunk, chunkOffset: 20 },
        { ...next, chunkOffset: 0 },
      ],
      message: /at 20, want one of 1 to 30 at 0/,
    },
    {
      name: "a chunk beyond the file",
      lines: [chunk, { ...next, chunkSize: 11 }],
      message: /has a chunk of 11 bytes/,
    },
    {
      name: "one chunk too many",
      lines: [chunk, next, { ...next, chunkOffset: 30 }],
      message: /or one too many/,
    },
    { name: "a chunk without a file", lines: [next], message: /does not follow its file/ },
    {
      name: "a chunk of another file",
      lines: [chunk, { ...next, name: "g" }],
      message: /does not follow its file/,
    },
    {
      name: "a chunk without a digest",
      lines: [{ ...chunk, chunkDigest: undefined }, next],
      message: /without a digest/,
    },
    {
      name: "a digest that is none",
      lines: [{ ...chunk, chunkDigest: "sha256:12" }],
      message: /chunkDigest: it is no digest/,
    },
    {
      name: "a time that is none",
      lines: [{ ...fifo("a"), modtime: "yesterday" }],
      message: /modtime: it is "yesterday"/,
    },
    {
      name: "an owner that chown does not take",
      lines: [{ ...fifo("a"), uid: 0xffff_ffff }],
      message: /uid: it is 4294967295, want at most 4294967294/,
    },
    {
      name: "a device number that is too large",
      lines: [{ name: "a", type: "char", devMajor: 4096 }],
      message: /devMajor/,
    },
    {
      name: "an attribute that is no base64",
      lines: [{ ...fifo("a"), xattrs: { "user.x": "%%" } }],
      message: /xattrs: "user.x" is malformed/,
    },
    {
      name: "an attribute without a name",
      lines: [{ ...fifo("a"), xattrs: { "": "" } }],
      message: /xattrs: "" is malformed/,
    },
  ];
  for (const { name, lines, message } of refused) {
    test(`refuses ${name}`, () => {
      assert.throws(() => treeOf(...lines), { name: "InvalidArgumentError", message });
    });
  }

  test("refuses a chunk for which too much would have to be decompressed", () => {
    const large = { name: "f", type: "reg", size: 5001, chunkDigest: digest };
    const inside = { name: "f", type: "reg", size: 1, innerOffset: 5000, chunkDigest: digest };
    for (const line of [large, inside]) {
      assert.throws(() => treeOf(line), ResourceExhaustedError);
    }
  });

  test("makes of any entries a tree or a clear error", () => {
    const name = fc.constantFrom(
      "a",
      "b",
      "a/b",
      "a/b/c",
      "./a/",
      "../a",
      ".wh.a",
      "a/.wh..wh..opq",
      "",
      "b/c",
    );
    const line = fc.record(
      {
        name,
        type: fc.constantFrom("reg", "dir", "symlink", "hardlink", "char", "chunk"),
        linkName: name,
        size: fc.nat(30),
        offset: fc.nat(1100),
        chunkOffset: fc.nat(30),
        chunkSize: fc.nat(30),
        innerOffset: fc.nat(6000),
        chunkDigest: fc.constant(digest),
      },
      { requiredKeys: ["name", "type", "chunkDigest"] },
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        let tree: LayerTree;
        try {
          tree = treeOf(...lines);
        } catch (error) {
          assert(error instanceof ServiceError, String(error));
          return;
        }
        for (const { path, node } of walk(tree)) {
          assert(!path.includes("..") && !path.includes(".wh."));
          assert(node.index >= 0 && node.index < tree.nodes.count, path);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
