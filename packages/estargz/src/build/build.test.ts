import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { tocDigestOf } from "../annotations.ts";
import { readChunk } from "../chunk.ts";
import { blobInMemory, type OpenLayer, openLayer } from "../open.ts";
import { archiveOf, built, noise, sampleMembers } from "../sample-layer.ts";
import type { Node } from "../toc/node.ts";
import { nodeAt, walk } from "../toc/tree.ts";
import { type BuildOptions, type BuiltLayer, buildLayer } from "./build.ts";

type Built = BuiltLayer & { blob: Buffer };

async function opened({ blob, annotations }: Built): Promise<OpenLayer> {
  const layer = await openLayer(blobInMemory(blob), { trusted: tocDigestOf(annotations) });
  assert(layer !== undefined);
  return layer;
}

/** The content of a file, read chunk by chunk. */
function contentOf({ compression }: OpenLayer, blob: Buffer, node: Node | undefined): Buffer {
  assert(node?.type === "file");
  const content = Buffer.alloc(node.sizeBytes);
  for (const chunk of node.chunks) {
    const bytes = blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes);
    readChunk(chunk, compression, bytes).copy(content, chunk.fileOffset);
  }
  return content;
}

const formats = ["eStargz", "zstd:chunked"] as const;
const variants: { name: string; options: BuildOptions }[] = formats.flatMap((format) => [
  { name: `${format}`, options: { format } },
  { name: `${format} with small chunks`, options: { format, chunkBytes: 65_536 } },
  {
    name: `${format} with files that share members`,
    options: { format, minMemberBytes: 50_000, chunkBytes: 65_536 },
  },
  {
    name: `${format} with priorities`,
    options: { format, priorities: ["/opt/new", "bin/su2", "lib/zeros", "not/there"] },
  },
]);

function decompressed({ blob, mediaType }: Built): Buffer {
  return mediaType.endsWith("gzip") ? gunzipSync(blob) : zstdDecompressSync(blob);
}

describe("buildLayer", () => {
  for (const { name, options } of variants) {
    test(`${name}: says what it has built`, async () => {
      const layer = await built(await archiveOf(sampleMembers), options);
      const archive = decompressed(layer);
      assert.deepEqual(
        [layer.digest, layer.sizeBytes, layer.diffID, layer.archiveBytes],
        [digestOf(layer.blob), layer.blob.length, digestOf(archive), archive.length],
      );
      assert.equal(layer.annotations["io.containers.estargz.uncompressed-size"], String(archive.length));
      assert.equal((await opened(layer)).tocDigest, layer.tocDigest);
    });

    test(`${name}: has every file of the layer as it was`, async () => {
      const layer = await built(await archiveOf(sampleMembers), options);
      const open = await opened(layer);
      for (const member of sampleMembers) {
        const path = member.name.toString();
        const node = nodeAt(open.tree, path);
        if (path.includes(".wh.")) {
          assert.equal(node, undefined);
          continue;
        }
        assert(node !== undefined, path);
        if (member.type === "hard link") {
          assert.equal(node, nodeAt(open.tree, member.linkName?.toString() ?? ""));
          continue;
        }
        assert.equal(node.type, member.type);
        assert.deepEqual(
          [node.uid, node.gid, node.modifiedNs, node.mode & 0o7000],
          [member.uid ?? 0, member.gid ?? 0, member.modifiedNs ?? 0n, (member.mode ?? 0) & 0o7000],
        );
        assert.deepEqual(Object.fromEntries(node.xattrs), member.xattrs ?? {});
        if (member.type === "file") {
          assert(
            contentOf(open, layer.blob, node).equals(
              (member.content as Buffer | undefined) ?? Buffer.alloc(0),
            ),
          );
        }
      }
      assert.equal(nodeAt(open.tree, "var/gone")?.type, "whiteout");
    });

    test(`${name}: is unpacked by tar to what the layer is`, async () => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "estargz-"));
      const archive = await archiveOf(sampleMembers);
      const layer = await built(archive, options);
      const [before, after] = [
        unpacked(directory.path, "before", archive),
        unpacked(directory.path, "after", layer.blob),
      ];
      assert(before.includes("bin/su"));
      assert.deepEqual(after, before);
    });
  }

  test("gives the same bytes for the same layer, however that is compressed", async () => {
    const archive = await archiveOf(sampleMembers);
    for (const format of formats) {
      const { blob } = await built(archive, { format });
      for (const input of [archive, gzipSync(archive), zstdCompressSync(archive)]) {
        assert((await built(input, { format })).blob.equals(blob));
      }
    }
  });

  test("gives the same bytes for what it has built itself", async () => {
    const { blob } = await built(await archiveOf(sampleMembers), { priorities: ["bin/su"] });
    assert((await built(blob, { priorities: ["bin/su"] })).blob.equals(blob));
  });

  test("puts priorities first, with what they need, and the landmark behind them", async () => {
    const priorities = ["opt/new", "bin/su2", "opt/new", "/", "not/there"];
    const layer = await built(await archiveOf(sampleMembers), { priorities });
    assert.deepEqual(layer.missing, ["not/there"]);
    const { tree } = await opened(layer);
    const offsetOf = (path: string) => {
      const node = nodeAt(tree, path);
      return node?.type === "file" ? (node.chunks[0]?.offset ?? -1) : -1;
    };
    const [end] = [tree.prefetchBytes ?? 0];
    assert(0 < offsetOf("opt/new") && offsetOf("opt/new") < offsetOf("bin/su") && offsetOf("bin/su") < end);
    assert(offsetOf("etc/hosts") > end && offsetOf("lib/big") > end);
    // Not named before it, a directory that is in the layer still comes before what is in it.
    const names = listed(layer.blob);
    assert.deepEqual(names.slice(0, 4), ["opt/new", "bin/su", "bin/su2", ".prefetch.landmark"]);
    const withDirectory = await built(await archiveOf(sampleMembers), { priorities: ["etc/hosts"] });
    assert.deepEqual(listed(withDirectory.blob).slice(0, 3), ["etc/", "etc/hosts", ".prefetch.landmark"]);
    assert.equal(listed((await built(await archiveOf(sampleMembers))).blob)[0], ".no.prefetch.landmark");
  });

  test("lets small files share a member, each found in it", async () => {
    const members = Array.from(
      { length: 50 },
      (_, index): TarMember => ({ type: "file", name: `f${index}`, content: noise(100, index) }),
    );
    const archive = await archiveOf(members);
    const [own, shared] = [await built(archive), await built(archive, { minMemberBytes: 10_000 })];
    const open = await opened(shared);
    const offsets = new Set(
      [...walk(open.tree)].flatMap(({ node }) =>
        node.type === "file" ? node.chunks.map(({ offset }) => offset) : [],
      ),
    );
    assert(offsets.size <= 6 && shared.blob.length < own.blob.length);
    for (const { name, content } of members) {
      assert(contentOf(open, shared.blob, nodeAt(open.tree, name.toString())).equals(content as Buffer));
    }
  });

  test("takes the last of a name, and makes a link a file whose target is gone", async () => {
    const text = (name: string, content: string): TarMember => ({
      type: "file",
      name,
      content: Buffer.from(content),
    });
    const link = (name: string, linkName: string): TarMember => ({ type: "hard link", name, linkName });
    const layer = await built(
      await archiveOf([
        text("f", "old"),
        link("g", "f"),
        link("h", "g"),
        text("./f", "new"),
        text("d/x", "gone"),
        { type: "directory", name: "d" },
        { type: "symlink", name: "d", linkName: "f" },
        text("stargz.index.json", "{}"),
      ]),
    );
    const open = await opened(layer);
    const read = (path: string) => contentOf(open, layer.blob, nodeAt(open.tree, path)).toString();
    assert.deepEqual([read("f"), read("g"), read("h")], ["new", "old", "old"]);
    assert.equal(nodeAt(open.tree, "g"), nodeAt(open.tree, "h"));
    assert.equal(nodeAt(open.tree, "d")?.type, "symlink");
    assert.deepEqual(listed(layer.blob).toSorted(), [
      ".no.prefetch.landmark",
      "d",
      "f",
      "g",
      "h",
      "stargz.index.json",
    ]);
  });

  const refused: { name: string; members: TarMember[]; message: RegExp }[] = [
    {
      name: "a name that is not UTF-8",
      members: [{ type: "fifo", name: Buffer.from([0x61, 0xff]) }],
      message: /the name .* is not UTF-8/,
    },
    {
      name: "a link to a name that is not UTF-8",
      members: [{ type: "symlink", name: "a", linkName: Buffer.from([0x61, 0xff]) }],
      message: /the linkName .* is not UTF-8/,
    },
    {
      name: "a link to a file of another layer",
      members: [{ type: "hard link", name: "a", linkName: "b" }],
      message: /"a" is a hard link to "b"/,
    },
    {
      name: "a file beneath a link",
      members: [
        { type: "symlink", name: "a", linkName: "b" },
        { type: "fifo", name: "a/c/d" },
      ],
      message: /"a\/c\/d" is beneath "a", which is a symlink/,
    },
  ];
  for (const { name, members, message } of refused) {
    test(`refuses ${name}`, async () => {
      await assert.rejects(built(await archiveOf(members)), { name: "InexpressibleError", message });
    });
  }

  test("refuses a name that climbs out", async () => {
    await assert.rejects(built(await archiveOf([{ type: "fifo", name: "../a" }])), {
      name: "InvalidArgumentError",
      message: /below the root/,
    });
  });

  test("refuses a layer that is not the one that was meant", async () => {
    const archive = await archiveOf(sampleMembers);
    await built(gzipSync(archive), { diffID: digestOf(archive) });
    await assert.rejects(built(gzipSync(archive), { diffID: digestOf("another") }), {
      name: "DataLossError",
      message: /decompressed it has digest sha256:[0-9a-f]{64}, want sha256:/,
    });
  });

  test("refuses a layer that is cut short, corrupt or none", async () => {
    const archive = gzipSync(await archiveOf(sampleMembers));
    for (const input of [
      archive.subarray(0, 1000),
      Buffer.concat([archive, Buffer.from("x")]),
      noise(2000),
    ]) {
      await assert.rejects(built(input), InvalidArgumentError);
    }
    await assert.rejects(built(archive, { chunkBytes: 0 }), {
      name: "InvalidArgumentError",
      message: /want 1 to/,
    });
  });

  test("refuses files that are larger than is allowed, whether in the layer or as holes", async () => {
    const archive = await archiveOf(sampleMembers);
    await assert.rejects(built(archive, { maxUnpackedBytes: 100_000 }), {
      name: "ResourceExhaustedError",
      message: /more than 100000 bytes/,
    });
    await using directory = await mkdtempDisposable(join(tmpdir(), "estargz-"));
    const file = join(directory.path, "hole");
    writeFileSync(file, "");
    truncateSync(file, 2 ** 40);
    const sparse = execFileSync("tar", ["-cSf", "-", "-C", directory.path, "hole"]);
    assert(sparse.length < 100_000);
    await assert.rejects(built(sparse), {
      name: "ResourceExhaustedError",
      message: /more than 274877906944 bytes/,
    });
  });

  test("has zeros where a sparse file has holes", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "estargz-"));
    const file = join(directory.path, "holes");
    writeFileSync(file, "beginning");
    truncateSync(file, 300_000);
    appendFileSync(file, "middle");
    truncateSync(file, 500_000);
    const layer = await built(execFileSync("tar", ["-cSf", "-", "-C", directory.path, "holes"]));
    const open = await opened(layer);
    const wanted = Buffer.alloc(500_000);
    wanted.write("beginning");
    wanted.write("middle", 300_000);
    assert(contentOf(open, layer.blob, nodeAt(open.tree, "holes")).equals(wanted));
  });

  test("leaves no file behind, whether it ends well, badly or early", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "estargz-"));
    const options = { directory: directory.path };
    const archive = await archiveOf(sampleMembers);
    await built(archive, options);
    await assert.rejects(built(archive.subarray(0, 5000), options));
    const full = new Error("disk full");
    const input = { pieces: [archive], sizeBytes: archive.length };
    await assert.rejects(
      buildLayer(input, () => Promise.reject(full), options),
      full,
    );
    await assert.rejects(built(archive, { ...options, signal: AbortSignal.abort(full) }), full);
    assert.deepEqual(readdirSync(directory.path), []);
  });

  test("makes of any files a layer that has them", async () => {
    const path = fc
      .array(fc.constantFrom("a", "b", "ü", "x".repeat(120), "with space"), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join("/"));
    const member = fc.record({
      name: path,
      type: fc.constantFrom("file", "directory", "symlink", "fifo"),
      mode: fc.nat(0o7777),
      uid: fc.nat(0xffff_fffe),
      modifiedNs: fc.bigInt({ min: -(10n ** 18n), max: 4n * 10n ** 18n }),
      content: fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes)),
    });
    const options = fc.record({
      format: fc.constantFrom(...formats),
      chunkBytes: fc.integer({ min: 100, max: 4000 }),
      minMemberBytes: fc.constantFrom(0, 0, 1000, 5000),
      priorities: fc.array(path, { maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(member, { maxLength: 15 }), options, async (drawn, variant) => {
        const members = withoutClashes(drawn as Drawn[]);
        const layer = await built(await archiveOf(members), variant);
        const open = await opened(layer);
        const files = [...walk(open.tree)].filter(({ path: at }) => members.some(({ name }) => name === at));
        assert.equal(files.length, members.length);
        for (const member of members) {
          const node = nodeAt(open.tree, member.name);
          assert(node !== undefined);
          assert.deepEqual(
            [node.type, node.mode, node.uid, node.modifiedNs],
            [member.type, member.mode, member.uid, member.modifiedNs],
          );
          if (member.type === "file") {
            assert(contentOf(open, layer.blob, node).equals(member.content));
          }
        }
        assert.equal(digestOf(decompressed(layer)), layer.diffID);
      }),
      { numRuns: 60 },
    );
  });
});

interface Drawn {
  readonly type: "file" | "directory" | "symlink" | "fifo";
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly modifiedNs: bigint;
  readonly content: Buffer;
}

/** One of each name, and nothing beneath anything but a directory. */
function withoutClashes(drawn: readonly Drawn[]): (Drawn & { linkName: string })[] {
  const byName = new Map(drawn.map((member) => [member.name, member]));
  return [...byName.values()]
    .filter(({ name }) =>
      name
        .split("/")
        .every(
          (_, index, parts) =>
            index === 0 || (byName.get(parts.slice(0, index).join("/"))?.type ?? "directory") === "directory",
        ),
    )
    .map(({ content, ...member }) => ({
      ...member,
      linkName: member.type === "symlink" ? "target" : "",
      content: member.type === "file" ? content : Buffer.alloc(0),
    }));
}

/** Has tar unpack `blob`, and tells what came out, one line for each file. */
function unpacked(directory: string, name: string, blob: Buffer): string {
  const [file, target] = [join(directory, `${name}.tar`), join(directory, name)];
  writeFileSync(file, blob);
  mkdirSync(target);
  const zstd = blob.readUInt32LE(0) === 0xfd2f_b528 ? ["--zstd"] : [];
  execFileSync("tar", ["-x", ...zstd, "--xattrs", "--xattrs-include=*", "-f", file, "-C", target]);
  // Implicit directories have the time at which they were made.
  const script = `
    find . -mindepth 1 ! -name '*.landmark' ! -name stargz.index.json ! -type d -printf '%P %y %m %U %G %T@ %s %n %l\\n' | sort
    find etc -maxdepth 0 -printf '%P %y %m %U %G %T@\\n'
    find . -type f ! -name '*.landmark' ! -name stargz.index.json -print0 | sort -z | xargs -0 sha256sum
  `;
  return execFileSync("sh", ["-ec", script], { cwd: target, encoding: "utf8" });
}

/** The names in `blob`, as tar lists them. */
function listed(blob: Buffer): string[] {
  return execFileSync("tar", ["-tzf", "-"], { input: blob, encoding: "utf8" }).trim().split("\n");
}
