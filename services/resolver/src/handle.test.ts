import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseReference } from "@oci-worker/oci/reference";
import fc from "fast-check";
import { formatHandle, type Grantee, parseHandle } from "./handle.ts";

const grantee: Grantee = {
  reference: parseReference("alpine:3"),
  access: "push",
  sessionIDs: ["one", "two"],
  subject: "image",
};

function encoded(document: unknown): string {
  return Buffer.from(JSON.stringify(document)).toString("base64url");
}

const document = {
  version: 1,
  reference: "docker.io/library/alpine:3",
  access: "pull",
  sessions: [],
  subject: "layer",
};

describe("a handle", () => {
  test("says all that it was made from", () => {
    assert.deepEqual(parseHandle(formatHandle(grantee)), grantee);
    const layer = { ...grantee, access: "pull", subject: "layer", sessionIDs: [] } as const;
    assert.deepEqual(parseHandle(formatHandle(layer)), layer);
  });

  test("names no more sessions than anybody has", () => {
    const sessionIDs = Array.from({ length: 100 }, (_, index) => `session-${index}`);
    assert.deepEqual(parseHandle(formatHandle({ ...grantee, sessionIDs })).sessionIDs.length, 64);
  });

  test("of another making is refused", () => {
    assert.equal(parseHandle(encoded(document)).subject, "layer");
    const others = [
      { ...document, version: 2 },
      { ...document, reference: "Alpine" },
      { ...document, reference: undefined },
      { ...document, access: "delete" },
      { ...document, subject: "other" },
      { ...document, sessions: [1] },
      { ...document, sessions: Array.from({ length: 65 }, () => "x") },
    ];
    for (const handle of ["", "?", "x".repeat(64 * 1024 + 1), "e30", ...others.map(encoded)]) {
      assert.throws(() => parseHandle(handle), InvalidArgumentError);
    }
  });

  test("is read or refused, whatever the text", () => {
    const mutated = fc
      .record(
        {
          version: fc.constantFrom(1, 2, "1"),
          reference: fc.oneof(fc.constant("alpine"), fc.string()),
          access: fc.oneof(fc.constantFrom("pull", "push"), fc.anything()),
          sessions: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
          subject: fc.oneof(fc.constantFrom("layer", "image"), fc.jsonValue()),
        },
        { requiredKeys: [] },
      )
      .map((value) => Buffer.from(JSON.stringify(value, (_, each) => (typeof each === "bigint" ? 0 : each))));
    const text = fc.oneof(
      fc.string(),
      fc.base64String(),
      mutated.map((bytes) => bytes.toString("base64url")),
    );
    fc.assert(
      fc.property(text, (handle) => {
        try {
          parseHandle(handle);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError);
        }
      }),
    );
  });
});
