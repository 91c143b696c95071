import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { type ByteString, byteStringOf } from "./byte-string.ts";
import { type Collected, collect } from "./collect.ts";
import { blockBytes, typeFlags, writeHeader } from "./header.ts";
import { writePax } from "./pax.ts";
import { type TarMember, writeTar } from "./writer.ts";

async function archive(members: Iterable<TarMember>, options = { exactTimes: true }): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(members, options)));
}

/** One header, whatever it says. */
function header(fields: { typeFlag: string; name?: string; linkName?: string; sizeBytes?: number }): Buffer {
  const block = Buffer.alloc(blockBytes);
  writeHeader(block, {
    typeFlag: fields.typeFlag,
    name: byteStringOf(fields.name ?? "name"),
    linkName: byteStringOf(fields.linkName ?? ""),
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: fields.sizeBytes ?? 0,
    mtime: 0,
    major: 0,
    minor: 0,
  });
  return block;
}

function padded(body: Buffer | string): Buffer {
  const bytes = Buffer.from(body as string);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (blockBytes - 1))]);
}

function extension(typeFlag: string, body: Buffer | string): Buffer {
  return Buffer.concat([header({ typeFlag, sizeBytes: Buffer.byteLength(body) }), padded(body)]);
}

function pax(records: Record<string, string>): Buffer {
  const values = Object.entries(records).map(([key, value]) => [key, byteStringOf(value)] as const);
  return extension(typeFlags.pax, writePax(new Map<string, ByteString>(values)));
}

const end = Buffer.alloc(2 * blockBytes);

function assertInvalid(pieces: Buffer[], message: RegExp): void {
  assert.throws(
    () => collect(pieces),
    (error) => error instanceof InvalidArgumentError && message.test(error.message),
  );
}

const longName = `${"directory/".repeat(30)}file`;

const members: TarMember[] = [
  {
    type: "directory",
    name: "etc",
    mode: 0o1755,
    uid: 1000,
    gid: 1001,
    modifiedNs: 1_600_000_000_000_000_001n,
  },
  { type: "file", name: "etc/hosts", content: Buffer.from("127.0.0.1 localhost\n"), mode: 0o4755 },
  { type: "file", name: "etc/empty" },
  {
    type: "file",
    name: "etc/big",
    content: Buffer.alloc(70_000, "big"),
    xattrs: { "user.a": Buffer.from([0, 61, 10, 255]) },
  },
  { type: "file", name: longName, content: Buffer.from("x") },
  { type: "file", name: Buffer.from([0x66, 0xfc, 0xff]), content: Buffer.from("not UTF-8") },
  { type: "symlink", name: "link", linkName: "../".repeat(60) },
  { type: "hard link", name: "hosts", linkName: "etc/hosts", uid: 4_000_000_000 },
  { type: "character device", name: "null", deviceMajor: 1, deviceMinor: 3 },
  { type: "block device", name: "disk", deviceMajor: 0xfff, deviceMinor: 0xf_ffff },
  { type: "fifo", name: "pipe", modifiedNs: -1_500_000_000n },
];

/** What `member` must come out as. */
function asRead(member: TarMember): Collected["entry"] {
  const name = byteStringOf(member.name);
  const isFile = member.type === "file";
  return {
    type: member.type,
    name: member.type === "directory" ? (`${name}/` as ByteString) : name,
    linkName: byteStringOf(member.linkName ?? ""),
    mode: member.mode ?? (member.type === "symlink" ? 0o777 : 0o644),
    uid: member.uid ?? 0,
    gid: member.gid ?? 0,
    sizeBytes: isFile && member.content instanceof Uint8Array ? member.content.length : 0,
    modifiedNs: member.modifiedNs ?? 0n,
    accessedNs: undefined,
    deviceMajor: member.deviceMajor ?? 0,
    deviceMinor: member.deviceMinor ?? 0,
    xattrs: Object.entries(member.xattrs ?? {}).map(([key, value]) => ({ name: byteStringOf(key), value })),
  };
}

describe("TarReader", () => {
  test("reads what writeTar writes", async () => {
    const read = collect([await archive(members)]);
    assert.deepEqual(
      read.map(({ entry }) => entry),
      members.map(asRead),
    );
    for (const [index, { content }] of read.entries()) {
      assert.deepEqual(content, Buffer.from((members[index]?.content as Uint8Array) ?? ""));
    }
  });

  test("reads the same however the archive is cut into pieces", async () => {
    const bytes = await archive(members);
    const whole = collect([bytes]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 50 }), (lengths) => {
        const pieces: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i += 1) {
          const length = lengths[i % lengths.length] ?? 1;
          pieces.push(bytes.subarray(at, at + length));
          at += length;
        }
        const read = collect(pieces);
        assert.deepEqual(
          read.map(({ entry, content }) => ({ entry, content })),
          whole.map(({ entry, content }) => ({ entry, content })),
        );
      }),
      { numRuns: 50 },
    );
  });

  test("ends with entries or a clear error when bytes of an archive are changed", async () => {
    const bytes = await archive(members.filter(({ name }) => name !== "etc/big"));
    const change = fc.tuple(fc.nat(bytes.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), fc.boolean(), (changes, repair) => {
        const damaged = Buffer.from(bytes);
        for (const [at, byte] of changes) {
          damaged[at] = byte;
          if (repair) {
            repairChecksum(damaged, at - (at % blockBytes));
          }
        }
        try {
          collect([damaged]);
        } catch (error) {
          assert(error instanceof InvalidArgumentError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("ends with a clear error for garbage", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), (bytes) => {
        try {
          assert.deepEqual(collect([Buffer.from(bytes)]), []);
        } catch (error) {
          assert(error instanceof InvalidArgumentError, String(error));
        }
      }),
    );
  });

  test("takes an archive without zero blocks, with one, and with anything after two", async () => {
    const bytes = (await archive([{ type: "file", name: "a" }])).subarray(0, blockBytes);
    const zeros = Buffer.alloc(blockBytes);
    for (const pieces of [
      [bytes],
      [bytes, zeros],
      [bytes, zeros, zeros, Buffer.from("anything")],
      [Buffer.alloc(0)],
    ]) {
      assert.equal(collect(pieces).length, pieces[0]?.length === 0 ? 0 : 1);
    }
  });

  test("refuses an archive that ends within an entry, wherever that is", async () => {
    const bytes = await archive([{ type: "file", name: longName, content: Buffer.alloc(600), uid: 2 ** 31 }]);
    const wholeBytes = bytes.length - 2 * blockBytes;
    for (let length = 1; length < wholeBytes; length += 1) {
      assertInvalid([bytes.subarray(0, length)], /it ends early/);
    }
    assert.equal(collect([bytes.subarray(0, wholeBytes)]).length, 1);
  });

  test("refuses a block of zeros between entries, where readers disagree whether the archive goes on", async () => {
    const [one, other] = [header({ typeFlag: "0" }), header({ typeFlag: "0" })];
    assertInvalid([one, Buffer.alloc(blockBytes), other], /zeros stands between entries/);
  });

  test("refuses a wrong checksum, and takes one that was summed over signed bytes", () => {
    const block = header({ typeFlag: "0", name: "caf\u00e9" });
    const sum = Number.parseInt(block.toString("latin1", 148, 154), 8);
    const signed = Buffer.from(block);
    signed.write((sum - 512).toString(8).padStart(6, "0"), 148, "latin1");
    assert.equal(collect([signed]).length, 1);
    signed.write((sum - 511).toString(8).padStart(6, "0"), 148, "latin1");
    assertInvalid([signed], /checksum is \d+, but it says \d+/);
  });

  test("refuses unknown types, naming type and entry", () => {
    for (const typeFlag of ["V", "M", "D", "N", "8", "A", "X"]) {
      assertInvalid(
        [header({ typeFlag, name: "odd" })],
        new RegExp(`"odd": its type "${typeFlag}" is unknown`),
      );
    }
  });

  test("takes an old header as a directory if its name ends with a slash", () => {
    const types = ["old/", "old"].map((name) => collect([header({ typeFlag: "\0", name })])[0]?.entry.type);
    assert.deepEqual(types, ["directory", "file"]);
  });

  test("takes no content from entries that have none, whatever size they claim", () => {
    const link = header({ typeFlag: "1", name: "a", linkName: "b", sizeBytes: 5000 });
    const read = collect([
      link,
      header({ typeFlag: "5", name: "d", sizeBytes: 512 }),
      header({ typeFlag: "0" }),
    ]);
    assert.deepEqual(
      read.map(({ entry }) => [entry.type, entry.sizeBytes]),
      [
        ["hard link", 0],
        ["directory", 0],
        ["file", 0],
      ],
    );
  });

  test("skips global PAX headers, which containerd and Docker do not apply either", () => {
    const global = extension(typeFlags.globalPax, "12 path=oth\n");
    const read = collect([global, header({ typeFlag: "0", name: "own" }), end]);
    assert.deepEqual(
      read.map(({ entry }) => entry.name),
      ["own"],
    );
  });

  test("CVE-2025-62518: a PAX size is that of the entry, not of the long name before it", () => {
    const name = "n".repeat(150);
    const hidden = Buffer.concat([header({ typeFlag: "0", name: "hidden" }), end]);
    const pieces = [
      pax({ size: String(hidden.length) }),
      extension(typeFlags.gnuLongName, `${name}\0`),
      // The header itself says that the file is empty: a reader that believes it meets the hidden entry.
      header({ typeFlag: "0", name: "cut", sizeBytes: 0 }),
      padded(hidden),
      header({ typeFlag: "0", name: "last" }),
      end,
    ];
    const read = collect(pieces);
    assert.deepEqual(
      read.map(({ entry }) => [entry.name, entry.sizeBytes]),
      [
        [name, hidden.length],
        ["last", 0],
      ],
    );
    assert.deepEqual(read[0]?.content, hidden);
  });

  test("applies extension headers to one entry only", () => {
    const pieces = [
      pax({ path: "first", uid: "7" }),
      header({ typeFlag: "0", name: "x" }),
      header({ typeFlag: "0", name: "second" }),
    ];
    assert.deepEqual(
      collect(pieces).map(({ entry }) => [entry.name, entry.uid]),
      [
        ["first", 7],
        ["second", 0],
      ],
    );
  });

  test("keeps the header's own field where a PAX value is empty", () => {
    const read = collect([pax({ path: "", uid: "", mtime: "" }), header({ typeFlag: "0", name: "own" })]);
    assert.equal(read[0]?.entry.name, "own");
  });

  test("ends a GNU long name at its NUL", () => {
    const read = collect([extension(typeFlags.gnuLongName, "real\0hidden"), header({ typeFlag: "0" })]);
    assert.equal(read[0]?.entry.name, "real");
  });

  test("refuses extension headers larger than a mebibyte before it has read them", () => {
    for (const typeFlag of [typeFlags.pax, typeFlags.gnuLongName, typeFlags.gnuLongLink]) {
      assertInvalid(
        [header({ typeFlag, sizeBytes: 2 ** 20 + 1 })],
        /has 1048577 bytes, want at most 1048576/,
      );
    }
    assert.equal(collect([pax({ comment: "x".repeat(2 ** 20 - 100) }), header({ typeFlag: "0" })]).length, 1);
  });

  for (const record of ["uid", "gid"]) {
    test(`refuses a ${record} that chown(2) would take for "leave as it is", or cut`, () => {
      for (const value of [2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
        assertInvalid(
          [pax({ [record]: String(value) }), header({ typeFlag: "0" })],
          new RegExp(`its ${record} is ${value}`),
        );
      }
      assert.equal(collect([pax({ [record]: String(2 ** 32 - 2) }), header({ typeFlag: "0" })]).length, 1);
    });
  }

  test("refuses device numbers that the kernel would cut", () => {
    const block = header({ typeFlag: "3" });
    block.write("0010000\0", 329, "latin1");
    repairChecksum(block, 0);
    assertInvalid([block], /its device major is 4096, want 0 to 4095/);
  });

  test("refuses a negative size", () => {
    const block = header({ typeFlag: "0" });
    block.fill(0xff, 124, 136);
    repairChecksum(block, 0);
    assertInvalid([block], /its size is -1/);
  });
});

function repairChecksum(bytes: Buffer, offset: number): void {
  const block = bytes.subarray(offset, offset + blockBytes);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}
