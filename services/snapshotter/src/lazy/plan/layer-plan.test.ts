import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { imageOf } from "@oci-worker/erofs/image";
import type { Directory, Node } from "@oci-worker/erofs/node";
import { treeOf } from "@oci-worker/erofs/tree-of";
import { blobInMemory, openLayer } from "@oci-worker/estargz/open";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { sampleData, sampleLayer } from "../sample-layer.ts";
import { type LayerPlan, planLayer, type XattrNamespace } from "./layer-plan.ts";

async function planOf(members: readonly TarMember[], xattrNamespace: XattrNamespace = "trusted") {
  return planLayer((await sampleLayer(members)).tree, { xattrNamespace });
}

/** Of each plan the files as objects: what has several names is one of them. */
const trees = new WeakMap<LayerPlan, Directory>();

function rootOf(plan: LayerPlan): Directory {
  const root = trees.get(plan) ?? treeOf(plan.files);
  trees.set(plan, root);
  return root;
}

function at(plan: LayerPlan, path: string): Node {
  let node: Node | undefined = rootOf(plan);
  for (const name of path.split("/")) {
    node = node?.kind === "directory" ? node.entries.get(name) : undefined;
  }
  assert(node, `there is no ${path}`);
  return node;
}

/** The content of a file on the data device. */
function contentAt(plan: LayerPlan, path: string, data: Buffer): Buffer {
  const node = at(plan, path);
  assert(node.kind === "file");
  return data.subarray(node.dataBlock * 4096, node.dataBlock * 4096 + node.sizeBytes);
}

const file = (name: string, content: string, more: Partial<TarMember> = {}): TarMember => ({
  type: "file",
  name,
  content: Buffer.from(content),
  ...more,
});

describe("planLayer", () => {
  test("keeps what unpacking keeps: modes, owners, times to the nanosecond, attributes, devices, links", async () => {
    const modifiedNs = 1_600_000_000_123_456_789n;
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    const plan = await planOf([
      { type: "directory", name: "etc", mode: 0o2750, uid: 10, gid: 20, modifiedNs },
      file("etc/su", "x", { mode: 0o4755, xattrs: { "security.capability": capability } }),
      { type: "symlink", name: "etc/link", linkName: "../su", mode: 0o644 },
      { type: "character device", name: "null", deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
      { type: "block device", name: "sda", deviceMajor: 8, deviceMinor: 0, uid: 3_000_000 },
      { type: "fifo", name: "pipe" },
      file("old", "", { modifiedNs: -5_000_000_000n }),
    ]);
    const { entries: _, ...etc } = at(plan, "etc") as Directory;
    const none = new Map();
    assert.deepEqual(etc, {
      kind: "directory",
      permissions: 0o2750,
      uid: 10,
      gid: 20,
      modifiedNs,
      xattrs: none,
    });
    const su = at(plan, "etc/su");
    assert.deepEqual(su.permissions, 0o4755);
    assert.deepEqual([...su.xattrs], [["security.capability", capability]]);
    const link = at(plan, "etc/link");
    assert.deepEqual(
      [link.kind, link.permissions, "target" in link && link.target],
      ["symbolic-link", 0o777, "../su"],
    );
    const [nothing, disk] = [at(plan, "null"), at(plan, "sda")];
    assert(nothing.kind === "character-device" && disk.kind === "block-device");
    assert.deepEqual(
      [nothing.major, nothing.minor, disk.major, disk.minor, disk.uid],
      [1, 3, 8, 0, 3_000_000],
    );
    assert.equal(at(plan, "pipe").kind, "fifo");
    assert.equal(at(plan, "old").modifiedNs, 0n);
  });

  for (const namespace of ["trusted", "user"] as const) {
    test(`hides what is beneath as overlayfs wants it, with ${namespace} attributes`, async () => {
      const plan = await planOf(
        [file("a/.wh.gone", ""), file("b/.wh..wh..opq", ""), file("b/new", "1")],
        namespace,
      );
      const gone = at(plan, "a/gone");
      assert(gone.kind === "character-device" && gone.major === 0 && gone.minor === 0);
      assert.deepEqual([...at(plan, "b").xattrs], [[`${namespace}.overlay.opaque`, Buffer.from("y")]]);
      assert.equal(at(plan, "a").xattrs.size, 0);
    });
  }

  test("leaves the TOC and the landmarks out", async () => {
    const { tree } = await sampleLayer([file("a", "1"), file("b", "2")], { priorities: ["b"] });
    const plan = planLayer(tree, { xattrNamespace: "trusted" });
    assert.deepEqual([...rootOf(plan).entries.keys()].sort(), ["a", "b"]);
    assert(plan.prefetchBytes !== undefined && plan.prefetchBytes > 0);
  });

  test("drops attributes that overlayfs or the image has no place for, and counts them", async () => {
    const plan = await planOf([
      { type: "directory", name: "d", xattrs: { "trusted.overlay.redirect": Buffer.from("/etc") } },
      file("f", "1", { xattrs: { "user.overlay.opaque": Buffer.from("y"), "user.kept": Buffer.from("1") } }),
      file("g", "2", { xattrs: { "user.overlay.opaque": Buffer.from("x"), "bogus.name": Buffer.from("1") } }),
      file("h", "3", { xattrs: { "user.long": Buffer.alloc(65_536) } }),
      file("d/.wh..wh..opq", ""),
    ]);
    assert.deepEqual(Object.fromEntries(plan.droppedXattrs), {
      "trusted.overlay.redirect": 1,
      "user.overlay.opaque": 2,
      "bogus.name": 1,
      "user.long": 1,
    });
    assert.deepEqual([...at(plan, "f").xattrs.keys()], ["user.kept"]);
    assert.deepEqual([...at(plan, "d").xattrs.keys()], ["trusted.overlay.opaque"]);
    imageOf(plan.files, { dataBlocks: plan.dataBlocks, uuid: Buffer.alloc(16) });
  });

  test("has room for equal content once, and none for none", async () => {
    const big = "0123456789".repeat(1000);
    const plan = await planOf([file("a", big), file("b", big), file("c", "other"), file("empty", "")]);
    const [a, b, c] = ["a", "b", "c"].map((name) => at(plan, name));
    assert(a?.kind === "file" && b?.kind === "file" && c?.kind === "file");
    assert.notEqual(a, b);
    assert.equal(a.dataBlock, b.dataBlock);
    assert.notEqual(a.dataBlock, c.dataBlock);
    assert.equal(plan.dataBlocks, 3 + 1);
    assert.equal(plan.chunks.length, 2);
    assert.equal((await planOf([file("empty", "")])).dataBlocks, 0);
  });

  test("has room for zeros that are not in the blob", async () => {
    const hole = { type: "reg", size: 10_000, chunkType: "zeros" };
    const digest = digestOf("a");
    const plan = await planOfToc([
      { ...hole, name: "hole" },
      { ...hole, name: "same" },
      { name: "part", type: "reg", size: 8192, chunkSize: 4096, chunkType: "zeros" },
      { name: "part", type: "chunk", chunkOffset: 4096, offset: 7, chunkDigest: digest },
    ]);
    assert.equal(plan.dataBlocks, 2 + 3);
    assert.deepEqual(
      plan.chunks.map(({ start }) => start),
      [4096],
    );
    const [first, second, third] = ["part", "hole", "same"].map((name) => at(plan, name));
    assert(first?.kind === "file" && second?.kind === "file" && third?.kind === "file");
    assert.deepEqual([first.dataBlock, second.dataBlock, third.dataBlock], [0, 2, 2]);
  });

  test("does not take files for equal because their digests are said to be", async () => {
    const line = { type: "reg", size: 5, digest: digestOf("both") };
    const plan = await planOfToc([
      { ...line, name: "one", chunkDigest: digestOf("a") },
      { ...line, name: "other", chunkDigest: digestOf("b") },
    ]);
    assert.equal(plan.dataBlocks, 2);
  });

  test("does not take a file for equal to a longer one that lies about its digest", async () => {
    const line = { type: "reg", chunkDigest: digestOf("a") };
    const plan = await planOfToc([
      { ...line, name: "short", size: 5 },
      { ...line, name: "long", size: 12_288, offset: 50 },
    ]);
    assert.equal(plan.dataBlocks, 1 + 3);
  });

  test("does not take files for equal whose chunks begin alike", async () => {
    const [a, b, c] = ["a", "b", "c"].map((text) => digestOf(text));
    const lines = (name: string, second: string, chunkSize: number) => [
      { name, type: "reg", size: 10, chunkSize, chunkDigest: a },
      { name, type: "chunk", chunkOffset: chunkSize, chunkDigest: second },
    ];
    const files = [
      lines("1", b ?? "", 4),
      lines("2", c ?? "", 4),
      lines("3", b ?? "", 5),
      lines("4", b ?? "", 4),
    ];
    const plan = await planOfToc(files.flat());
    assert.equal(plan.dataBlocks, 3);
    const [first, last] = [at(plan, "1"), at(plan, "4")];
    assert(first.kind === "file" && last.kind === "file");
    assert.equal(first.dataBlock, last.dataBlock);
  });

  test("plans whatever a layer has: each file with its content, equal ones once, the same every time", async () => {
    await fc.assert(
      fc.asyncProperty(layers(), async ({ members, contents, linked, options }) => {
        const layer = await sampleLayer(members, options);
        const plan = planLayer(layer.tree, { xattrNamespace: "trusted" });
        assert.deepEqual(planLayer(layer.tree, { xattrNamespace: "trusted" }), plan);
        const data = sampleData(plan, layer);
        for (const [path, content] of contents) {
          assert(contentAt(plan, path, data).equals(content), path);
        }
        let end = 0;
        for (const { start, chunk: placed } of plan.chunks) {
          assert(start >= end, "chunks overlap, or are not in order");
          end = start + placed.sizeBytes;
        }
        assert(end <= plan.dataBlocks * 4096);
        const distinct = new Set([...contents.values()].map((content) => content.toString("hex")));
        const blocks = [...distinct].map((hex) => Math.ceil(hex.length / 2 / 4096));
        assert.equal(
          plan.dataBlocks,
          blocks.reduce((sum, each) => sum + each, 0),
        );
        for (const path of linked) {
          assert.equal(at(plan, path), at(plan, `${path}.link`));
        }
      }),
      { numRuns: 60 },
    );
  });
});

/** The plan of a layer whose TOC has `entries`, of a blob of 100 bytes. */
async function planOfToc(entries: readonly object[]): Promise<LayerPlan> {
  const content = Buffer.from(JSON.stringify({ version: 1, entries }));
  const archive = Buffer.concat(
    await Array.fromAsync(writeTar([{ type: "file", name: "stargz.index.json", content }])),
  );
  const footer = `${(100).toString(16).padStart(16, "0")}STARGZ`;
  const blob = Buffer.concat([
    Buffer.alloc(100),
    gzipSync(archive),
    // The legacy form: a gzip member without content, with the place of the TOC as its extra field.
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, footer.length, 0]),
    Buffer.from(footer),
    Buffer.from([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
  ]);
  const layer = await openLayer(blobInMemory(blob), { trusted: undefined });
  assert(layer);
  return planLayer(layer.tree, { xattrNamespace: "trusted" });
}

/** Layers of files, some with equal content, some with two names. */
function layers() {
  const content = fc.oneof(
    fc.constantFrom(Buffer.alloc(0), Buffer.from("equal"), Buffer.alloc(4096, "b"), Buffer.alloc(9000)),
    fc.uint8Array({ maxLength: 12_000 }).map((bytes) => Buffer.from(bytes)),
  );
  const name = fc.stringMatching(/^[a-z]{1,8}(\/[a-z]{1,8}){0,2}$/).map((text) => `top/${text}.file`);
  return fc
    .record({
      files: fc.dictionary(name, fc.record({ content, hasLink: fc.boolean() }), { maxKeys: 12 }),
      options: fc.record({
        chunkBytes: fc.constantFrom(1000, 4096, 5000, 4 * 1024 * 1024),
        minMemberBytes: fc.constantFrom(0, 20_000),
        format: fc.constantFrom("eStargz" as const, "zstd:chunked" as const),
      }),
    })
    .map(({ files, options }) => {
      const members: TarMember[] = [];
      const contents = new Map<string, Buffer>();
      const linked: string[] = [];
      for (const [path, each] of Object.entries(files)) {
        members.push({ type: "file", name: path, content: each.content });
        contents.set(path, each.content);
        if (each.hasLink) {
          linked.push(path);
          members.push({ type: "hard link", name: `${path}.link`, linkName: path });
        }
      }
      return { members, contents, linked, options };
    });
}
