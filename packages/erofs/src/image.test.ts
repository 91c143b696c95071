import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { lstatSync, readdirSync } from "node:fs";
import { mkdir, mkdtempDisposable, open, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import fc from "fast-check";
import { assertShows } from "./assert-shows.ts";
import { type ImageOptions, imageOf, tableOf } from "./image.ts";
import type { Directory, Node } from "./node.ts";
import { device, directory, endpoint, SampleData, symbolicLink, whiteout } from "./sample-tree.ts";
import { readSuperblock } from "./superblock.ts";
import { treeOf } from "./tree-of.ts";

const run = promisify(execFile);
const uuid = Buffer.from("000102030405060708090a0b0c0d0e0f", "hex");

function imageOfTree(root: Directory, options: Partial<ImageOptions> = {}): Buffer {
  return imageOf(tableOf(root), { dataBlocks: 0, uuid, ...options });
}

/** Mounts the image of `root`, has fsck.erofs look at it, and hands over where it is shown. */
async function mounted(root: Directory, data: SampleData, use: (path: string) => Promise<void>) {
  await using scratch = await mkdtempDisposable(join(tmpdir(), "erofs-"));
  const imagePath = join(scratch.path, "image");
  const dataPath = join(scratch.path, "data");
  await writeFile(imagePath, imageOfTree(root, { dataBlocks: data.blocks }));
  await writeFile(dataPath, data.bytes());
  const hasData = data.blocks > 0;
  await run("fsck.erofs", [...(hasData ? [`--device=${dataPath}`] : []), imagePath]);
  const options = hasData ? [`device=${dataPath}`] : [];
  await using shown = await mountTemporarily([{ type: "erofs", source: imagePath, options }], scratch.path);
  await use(shown.path);
}

describe("imageOf", () => {
  test("makes an image that Linux mounts as the tree that it was made of", async () => {
    const data = new SampleData();
    const twice = data.file(Buffer.from("linked"));
    const root = directory({
      "empty file": data.file(Buffer.alloc(0)),
      "a block": data.file(Buffer.alloc(4096, "b")),
      "more than a block": data.file(Buffer.alloc(10_000, "c")),
      "set user id": data.file(Buffer.from("#!"), { permissions: 0o4755, uid: 4_000_000_000, gid: 100_000 }),
      "before 1970": data.file(Buffer.from("old"), { modifiedNs: -1_000_000_001n }),
      capable: data.file(Buffer.from("x"), {
        xattrs: new Map([
          ["security.capability", Buffer.from("0100000200040000000000000000000000000000", "hex")],
          ["user.binary", Buffer.from([0, 255, 10])],
          ["user.empty", Buffer.alloc(0)],
          ["trusted.long", Buffer.alloc(5000, "v")],
        ]),
      }),
      name: twice,
      "another name": twice,
      "ü 日本 \u{1F600} \uFFFD": directory({ "\u{10000}": symbolicLink("x"), "\uFFFF": symbolicLink("y") }),
      [`${"n".repeat(255)}`]: symbolicLink("short"),
      "long link": symbolicLink("t".repeat(4095)),
      "link that does not fit behind its inode": symbolicLink("t".repeat(4080)),
      "!before the dots": symbolicLink("."),
      null: device("character-device", 1, 3),
      "large numbers": device("block-device", 4095, 1_048_575),
      deleted: whiteout(),
      fifo: endpoint("fifo"),
      socket: endpoint("socket"),
      opaque: directory(
        { sticky: directory({}, { permissions: 0o1777 }) },
        { xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]), permissions: 0o2750 },
      ),
    });
    await mounted(root, data, async (path) => assertShows(path, root, data.bytes()));
  });

  test("makes an empty tree, which needs no data device", async () => {
    await mounted(directory({}), new SampleData(), async (path) => assert.deepEqual(readdirSync(path), []));
  });

  test("makes directories of many blocks", async () => {
    const data = new SampleData();
    const names = Array.from({ length: 5000 }, (_, index) => `${index}`.repeat(1 + (index % 30)));
    const many = directory(Object.fromEntries(names.map((name) => [name, data.file(Buffer.from(name))])));
    const root = directory({ many });
    await mounted(root, data, async (path) => {
      assertShows(path, root, data.bytes());
      assert.throws(() => lstatSync(join(path, "many", "absent")), { code: "ENOENT" });
    });
  });

  test("makes a lower layer of overlayfs, with its whiteouts and opaque directories", async () => {
    const data = new SampleData();
    const opaque = { xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]) };
    const root = directory({ gone: whiteout(), closed: directory({ new: symbolicLink("x") }, opaque) });
    await mounted(root, data, async (path) => {
      await using scratch = await mkdtempDisposable(join(tmpdir(), "overlay-"));
      const beneath = join(scratch.path, "beneath");
      await mkdir(join(beneath, "closed"), { recursive: true });
      await Promise.all(["gone", "kept", "closed/old"].map((name) => writeFile(join(beneath, name), "")));
      await using overlay = await mountTemporarily(
        [{ type: "overlay", source: "overlay", options: [`lowerdir=${path}:${beneath}`] }],
        scratch.path,
      );
      assert.deepEqual(readdirSync(overlay.path).sort(), ["closed", "kept"]);
      assert.deepEqual(readdirSync(join(overlay.path, "closed")), ["new"]);
    });
  });

  test("has files of more than one chunk, of 8 TiB each", async () => {
    await using scratch = await mkdtempDisposable(join(tmpdir(), "erofs-"));
    const [imagePath, dataPath] = [join(scratch.path, "image"), join(scratch.path, "data")];
    const [dataBlock, dataBlocks] = [3, 2 ** 31 + 2 ** 20];
    const sizeBytes = (dataBlocks - dataBlock) * 4096;
    const [sample] = directory({ huge: new SampleData().file(Buffer.alloc(0)) }).entries.values();
    assert(sample?.kind === "file");
    // Attributes before what says where it is, which has to be at a multiple of 8 bytes.
    const xattrs = new Map([["user.odd", Buffer.from("12345")]]);
    const root = directory({ huge: { ...sample, xattrs, sizeBytes, dataBlock } });
    await writeFile(imagePath, imageOfTree(root, { dataBlocks }));
    await using data = await open(dataPath, "w");
    await data.truncate(dataBlocks * 4096);
    const marks = [0, 2 ** 43 - 1, 2 ** 43, sizeBytes - 1];
    for (const mark of marks) {
      await data.write(Buffer.from("x"), 0, 1, dataBlock * 4096 + mark);
    }
    await run("fsck.erofs", [`--device=${dataPath}`, imagePath]);
    const options = [`device=${dataPath}`];
    await using shown = await mountTemporarily([{ type: "erofs", source: imagePath, options }], scratch.path);
    await using file = await open(join(shown.path, "huge"));
    assert.equal((await file.stat()).size, sizeBytes);
    for (const mark of marks) {
      assert.equal((await file.read(Buffer.alloc(1), 0, 1, mark)).buffer.toString(), "x", `${mark}`);
    }
  });

  test("writes equal trees as equal images, whatever the order of their entries", () => {
    const one = directory({ a: symbolicLink("1"), b: directory({ c: whiteout(), d: endpoint("fifo") }) });
    const other = directory({ b: directory({ d: endpoint("fifo"), c: whiteout() }), a: symbolicLink("1") });
    assert.deepEqual(imageOfTree(one), imageOfTree(other));
  });

  test("is made of objects or of columns", () => {
    fc.assert(
      fc.property(trees(), ({ root }) => assert.deepEqual(treeOf(tableOf(root)), root)),
      { numRuns: 50 },
    );
  });

  test("counts a file with several names once", () => {
    const shared = symbolicLink("x");
    const image = imageOfTree(directory({ a: shared, b: directory({ c: shared }) }));
    assert.equal(readSuperblock(image).inodes, 3);
  });

  const refusals: readonly { readonly what: string; readonly root: Directory; readonly says: RegExp }[] = [
    { what: "an empty name", root: directory({ "": whiteout() }), says: /no name in a directory/ },
    { what: "the name of the directory above", root: directory({ "..": whiteout() }), says: /"\.\."/ },
    { what: "a name with a slash", root: directory({ "a/b": whiteout() }), says: /"a\/b"/ },
    { what: "a name with NUL", root: directory({ "a\0b": whiteout() }), says: /without slash and NUL/ },
    {
      what: "a name of 256 bytes",
      root: directory({ ["ü".repeat(128)]: whiteout() }),
      says: /1 to 255 bytes/,
    },
    {
      what: "a link to nothing",
      root: directory({ a: symbolicLink("") }),
      says: /target of 1 to 4095 bytes/,
    },
    {
      what: "a link to a path too long",
      root: directory({ a: symbolicLink("x".repeat(4096)) }),
      says: /4095/,
    },
    {
      what: "an attribute of no namespace",
      root: directory({}, { xattrs: new Map([["bogus.name", Buffer.alloc(1)]]) }),
      says: /"bogus\.name": EROFS has no such names/,
    },
    {
      what: "an attribute whose value is too long",
      root: directory({}, { xattrs: new Map([["user.a", Buffer.alloc(65_536)]]) }),
      says: /65536 bytes, want at most 65535/,
    },
    {
      what: "attributes that are too many",
      root: directory(
        {},
        { xattrs: new Map(["a", "b", "c", "d", "e"].map((name) => [`user.${name}`, Buffer.alloc(65_000)])) },
      ),
      says: /together they take/,
    },
    {
      what: "a file beyond the end of its device",
      root: directory({ a: new SampleData().file(Buffer.alloc(4097)) }),
      says: /the data device has 0 blocks/,
    },
  ];
  for (const { what, root, says } of refusals) {
    test(`refuses ${what}`, () => {
      assert.throws(
        () => imageOfTree(root),
        (error) => error instanceof InvalidArgumentError && says.test(error.message),
      );
    });
  }

  test("refuses a directory that has two places", () => {
    const twice = directory({});
    assert.throws(() => imageOfTree(directory({ a: twice, b: twice })), InvalidArgumentError);
  });

  test("is mounted as what it was made of, whatever that is", async () => {
    await fc.assert(
      fc.asyncProperty(trees(), async ({ root, data }) => {
        await mounted(root, data, async (path) => assertShows(path, root, data.bytes()));
      }),
      { numRuns: 25 },
    );
  });
});

/** Trees of all kinds of files, some of them with several names. */
function trees(): fc.Arbitrary<{ root: Directory; data: SampleData }> {
  const name = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
    .filter((text) => !/[/\0]/.test(text) && text !== "." && text !== ".." && text.isWellFormed());
  const attributes = fc.record({
    permissions: fc.nat(0o7777),
    uid: fc.nat(0xffff_fffe),
    gid: fc.nat(0xffff_fffe),
    modifiedNs: fc.bigInt(-(2n ** 60n), 2n ** 62n),
    xattrs: fc
      .dictionary(fc.stringMatching(/^[a-z]{1,50}$/), fc.uint8Array({ maxLength: 3000 }), { maxKeys: 4 })
      .map((values) => new Map(Object.entries(values).map(([key, value]) => [`trusted.${key}`, value]))),
  });
  const plain = fc.oneof(
    fc.record({ kind: fc.constant("content" as const), content: fc.uint8Array({ maxLength: 9000 }) }),
    fc.record({
      kind: fc.constant("symbolic-link" as const),
      target: fc.string({ minLength: 1, maxLength: 4000 }).filter((text) => !text.includes("\0")),
    }),
    fc.record({
      kind: fc.constantFrom("character-device" as const, "block-device" as const),
      major: fc.nat(4095),
      minor: fc.nat(0xfffff),
    }),
    fc.record({ kind: fc.constantFrom("fifo" as const, "socket" as const) }),
  );
  const leaf = fc.record({ plain, attributes });
  const names = fc.uniqueArray(name, { maxLength: 30 });
  // Each name goes to one of the directories and, with those of equal number, to one file.
  const shape = fc.record({
    leaves: fc.array(leaf, { minLength: 1, maxLength: 12 }),
    directories: fc.array(fc.record({ attributes, names }), { minLength: 1, maxLength: 8 }),
    seed: fc.nat(1000),
  });
  return shape.map(({ leaves, directories, seed }) => {
    const data = new SampleData();
    const nodes = leaves.map(({ plain: file, attributes: more }): Node => {
      return file.kind === "content" ? data.file(file.content, more) : { ...more, ...file };
    });
    const made: { node: Directory; entries: Map<string, Node> }[] = [];
    for (const [index, { attributes: more, names: own }] of directories.entries()) {
      const entries = new Map<string, Node>();
      for (const [place, each] of own.entries()) {
        const node = nodes[(seed + index + place) % nodes.length];
        if (node !== undefined) {
          entries.set(each, node);
        }
      }
      const node: Directory = { ...more, kind: "directory", entries };
      made[(seed + index) % Math.max(1, made.length)]?.entries.set(`directory ${index}`, node);
      made.push({ node, entries });
    }
    const [top] = made;
    assert(top);
    return { root: top.node, data };
  });
}
