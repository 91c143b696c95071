import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type TarMember, type TarWriterOptions, writeTar } from "./writer.ts";

async function archive(members: Iterable<TarMember>, options?: TarWriterOptions): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeTar(members, options)));
}

function list(program: string, input: Buffer): string {
  const options =
    program === "tar" ? ["--numeric-owner", "--full-time", "--quoting-style=escape"] : ["--numeric-owner"];
  return execFileSync(program, [...options, "-tvf", "-"], {
    input,
    encoding: "utf8",
    env: { ...process.env, TZ: "UTC", LC_ALL: "C.UTF-8" },
  });
}

describe("writeTar", () => {
  const members: TarMember[] = [
    { type: "directory", name: "a", mode: 0o750, uid: 1, gid: 2 },
    { type: "file", name: "a/f", content: Buffer.from("hello"), modifiedNs: 1_600_000_000_900_000_000n },
    { type: "symlink", name: "a/s", linkName: "f" },
    { type: "hard link", name: "a/h", linkName: "a/f" },
    { type: "character device", name: "a/c", deviceMajor: 5, deviceMinor: 1 },
    { type: "fifo", name: "a/p", uid: 3_000_000 },
    { type: "file", name: `a/${"long".repeat(60)}` },
  ];

  for (const program of ["tar", "bsdtar"]) {
    test(`writes what ${program} reads`, async () => {
      const lines = list(program, await archive(members))
        .trimEnd()
        .split("\n");
      const wanted = [
        /^drwxr-x---.* a\/$/,
        /^-rw-r--r--.* 5 .* a\/f$/,
        /^lrwxrwxrwx.* a\/s -> f$/,
        /^hrw-r--r--.* a\/h link to a\/f$/,
        /^crw-r--r--.*5,\s*1 .* a\/c$/,
        /^prw-r--r--.*3000000.* a\/p$/,
        /longlong$/,
      ];
      assert.equal(lines.length, wanted.length);
      for (const [index, pattern] of wanted.entries()) {
        assert.match(lines[index] ?? "", pattern);
      }
    });
  }

  test("writes the same bytes for the same members", async () => {
    assert.deepEqual(await archive(members), await archive(members.map((member) => ({ ...member }))));
    const [one, other] = [
      { "user.b": Buffer.from("2"), "user.a": Buffer.from("1") },
      { "user.a": Buffer.from("1"), "user.b": Buffer.from("2") },
    ];
    const file = (xattrs: Record<string, Buffer>) => archive([{ type: "file", name: "f", xattrs }]);
    assert.deepEqual(await file(one), await file(other));
  });

  test("writes one header for what ustar can say, names up to 255 bytes included", async () => {
    const name = `${"d".repeat(155)}/${"f".repeat(100)}`;
    const bytes = await archive([{ type: "file", name, modifiedNs: 1_600_000_000_900_000_000n }]);
    assert.equal(bytes.length, 3 * 512);
  });

  test("writes nanoseconds only when asked to", async () => {
    const [, member] = members;
    assert(member !== undefined);
    assert(!(await archive([member])).includes("mtime="));
    assert((await archive([member], { exactTimes: true })).includes("mtime=1600000000.9\n"));
  });

  test("says which charset a name is of that is too long and not UTF-8", async () => {
    const name = Buffer.alloc(300, 0xff);
    const bytes = await archive([{ type: "file", name }]);
    assert(bytes.includes("hdrcharset=BINARY\n"));
    assert(!(await archive([{ type: "file", name: "ü".repeat(300) }])).includes("hdrcharset"));
  });

  test("writes content that comes in pieces", async () => {
    async function* pieces() {
      yield Buffer.from("hel");
      yield Buffer.from("lo");
    }
    const bytes = await archive([{ type: "file", name: "f", content: pieces(), sizeBytes: 5 }]);
    assert.equal(bytes.toString("latin1", 512, 517), "hello");
    assert.equal(bytes.length, 4 * 512);
  });

  for (const sizeBytes of [4, 6]) {
    test(`refuses content of 5 bytes for a size of ${sizeBytes}`, async () => {
      await assert.rejects(
        archive([{ type: "file", name: "f", content: [Buffer.from("hello")], sizeBytes }]),
        (error) => error instanceof InvalidArgumentError && error.message.includes(`want ${sizeBytes}`),
      );
    });
  }

  test("refuses an attribute name that PAX cannot say", async () => {
    await assert.rejects(
      archive([{ type: "file", name: "f", xattrs: { "user.a=b": Buffer.from("c") } }]),
      InvalidArgumentError,
    );
  });
});
