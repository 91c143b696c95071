import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import type { Descriptor } from "./descriptor.ts";
import { digestOf } from "./digest.ts";
import { ociManifest } from "./media-type.ts";
import {
  candidatesFor,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
  parsePlatform,
  platformMatches,
} from "./platform.ts";

describe("parsePlatform", () => {
  const cases = [
    ["linux/amd64", "linux/amd64"],
    ["Linux/X86_64", "linux/amd64"],
    ["linux/x86-64/v1", "linux/amd64"],
    ["linux/amd64/v3", "linux/amd64/v3"],
    ["linux/i386", "linux/386"],
    ["linux/aarch64", "linux/arm64"],
    ["linux/arm64/v8", "linux/arm64"],
    ["linux/arm64/8", "linux/arm64"],
    ["linux/arm", "linux/arm/v7"],
    ["linux/arm/6", "linux/arm/v6"],
    ["linux/armhf", "linux/arm/v7"],
    ["linux/armel", "linux/arm/v6"],
    ["macOS/arm64", "darwin/arm64"],
    ["windows/amd64", "windows/amd64"],
    ["linux/future", "linux/future"],
    ["s390x", "linux/s390x"],
    ["arm64", "linux/arm64"],
  ] as const;
  for (const [text, want] of cases) {
    test(`${text} is ${want}`, () => {
      assert.equal(formatPlatform(parsePlatform(text)), want);
    });
  }

  test("an operating system alone means this machine's architecture", () => {
    assert.deepEqual(parsePlatform("linux"), hostPlatform);
    assert.deepEqual(parsePlatform("freebsd"), { ...hostPlatform, os: "freebsd" });
  });

  for (const text of [
    "",
    "/",
    "linux/",
    "linux/amd64/v1/x",
    "linux/*",
    "vax",
    "linux /amd64",
    "a".repeat(100),
  ]) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parsePlatform(text), InvalidArgumentError);
    });
  }

  test("gives a normalised platform or InvalidArgument, whatever the text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9_/*-]{0,30}$/)), (text) => {
        try {
          const platform = parsePlatform(text);
          assert.deepEqual(normalizePlatform(platform), platform);
          assert.deepEqual(parsePlatform(formatPlatform(platform)), platform);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError);
        }
      }),
    );
  });
});

/** An index entry that is told apart by its name. */
function entry(name: string, platform?: Platform): Descriptor {
  return {
    mediaType: ociManifest,
    digest: digestOf(name),
    size: 1,
    annotations: { name },
    ...(platform && { platform }),
  };
}

function candidates(wanted: string, ...names: readonly string[]): (string | undefined)[] {
  const entries = names.map((name) => (name === "unsaid" ? entry(name) : entry(name, rawPlatform(name))));
  return candidatesFor(parsePlatform(wanted), entries).map(({ annotations }) => annotations?.["name"]);
}

/** As written in an index: not normalised. */
function rawPlatform(text: string): Platform {
  const [os = "", architecture = "", variant] = text.split("/");
  return { os, architecture, ...(variant && { variant }) };
}

describe("candidatesFor", () => {
  test("takes what runs here, the best fit first", () => {
    assert.deepEqual(candidates("linux/amd64", "linux/386", "linux/arm64", "windows/amd64", "linux/amd64"), [
      "linux/amd64",
      "linux/386",
    ]);
    assert.deepEqual(candidates("linux/amd64/v3", "linux/amd64/v4", "linux/amd64", "linux/amd64/v2"), [
      "linux/amd64/v2",
      "linux/amd64",
    ]);
    assert.deepEqual(candidates("linux/arm/v6", "linux/arm/v7", "linux/arm/v5", "linux/arm/v6"), [
      "linux/arm/v6",
      "linux/arm/v5",
    ]);
    assert.deepEqual(candidates("linux/arm64", "linux/arm/v7", "linux/arm/v8", "linux/arm64/v8"), [
      "linux/arm64/v8",
      "linux/arm/v8",
      "linux/arm/v7",
    ]);
  });

  test("normalises the platforms of the index", () => {
    assert.deepEqual(candidates("linux/arm64", "Linux/AArch64"), ["Linux/AArch64"]);
  });

  test("keeps entries that do not say what they run on, after all others", () => {
    assert.deepEqual(candidates("linux/amd64", "unsaid", "linux/arm64", "linux/amd64"), [
      "linux/amd64",
      "unsaid",
    ]);
  });

  test("leaves out attestations, whose platform is unknown/unknown", () => {
    assert.deepEqual(candidates("linux/amd64", "unknown/unknown"), []);
  });

  test("keeps the order of the index among equals", () => {
    const [first, second] = [
      entry("first", parsePlatform("linux/amd64")),
      entry("second", parsePlatform("linux/amd64")),
    ];
    assert.deepEqual(candidatesFor(parsePlatform("linux/amd64"), [first, second]), [first, second]);
  });
});

test("platformMatches is a question of what runs, not of what is equal", () => {
  assert.ok(platformMatches(parsePlatform("linux/amd64"), { os: "linux", architecture: "i386" }));
  assert.ok(!platformMatches(parsePlatform("linux/386"), { os: "linux", architecture: "amd64" }));
  assert.ok(!platformMatches(parsePlatform("linux/amd64"), { os: "windows", architecture: "amd64" }));
});
