import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseFlags } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";
import { convertFlags, convertRequest } from "./convert-flags.ts";

const request = (...args: string[]) => convertRequest(parseFlags(args, convertFlags));

test("a full command line is understood", () => {
  const parsed = request(
    ...["--format", "zstdchunked", "--record", "r", "--chunk-size", "64KiB", "--min-member-size", "1000"],
    ...["--level", "22", "--platform", "arm64", "--platform", "linux/amd64", "--max-unpacked-size", "2GB"],
    ...["--username", "me", "--password-stdin", "--progress", "plain", "--json", "a/b", "localhost:5000/c:2"],
  );
  assert.deepEqual(parsed, {
    image: { domain: "docker.io", repository: "a/b", tag: "latest" },
    target: { domain: "localhost:5000", repository: "c", tag: "2" },
    settings: {
      format: "zstd:chunked",
      chunkBytes: 65_536,
      minMemberBytes: 1000,
      maxUnpackedBytes: 2_000_000_000,
      level: 22,
    },
    record: "r",
    platforms: [
      { os: "linux", architecture: "arm64" },
      { os: "linux", architecture: "amd64" },
    ],
    username: "me",
    progress: "plain",
    json: true,
  });
});

test("what is not said is left to the builder", () => {
  assert.deepEqual(request("a", "b").settings, { format: "eStargz" });
  assert.equal(request("a", "b").target.tag, "latest");
});

describe("convertRequest refuses", () => {
  const digest = `sha256:${"0".repeat(64)}`;
  const cases: [args: string[], text: RegExp][] = [
    [["a"], /want an image and the name for the new one/],
    [["a", "b", "c"], /want an image and the name for the new one/],
    [["a", "b", "--", "c"], /want an image and the name for the new one/],
    [["A", "b"], /Cannot use "A" as an image reference/],
    [["a", `b@${digest}`], /its digest comes of the conversion, want a tag/],
    [["a", "b", "--format", "gzip"], /want one of estargz, zstdchunked/],
    [["a", "b", "--chunk-size", "0"], /--chunk-size "0": want 1 to 33554432 bytes/],
    [["a", "b", "--chunk-size", "33MiB"], /--chunk-size "33MiB": want 1 to/],
    [["a", "b", "--chunk-size", "4 MiB"], /want 1 to .* with or without kB/],
    [["a", "b", "--chunk-size", "1toString"], /want 1 to/],
    [["a", "b", "--level", "10"], /--level "10": want 0 to 9/],
    [["a", "b", "--format", "zstdchunked", "--level", "0"], /--level "0": want 1 to 22/],
    [["a", "b", "--platform", "a/b/c/d"], /as a platform/],
    [["a", "b", "--username", "me"], /--username alone: want --password-stdin/],
  ];
  for (const [args, text] of cases) {
    test(args.join(" "), () => {
      assert.throws(
        () => request(...args),
        (error) => {
          assert(error instanceof UsageError);
          assert.match(error.message, text);
          return true;
        },
      );
    });
  }
});
