import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { digestOf } from "./digest.ts";
import { formatReference, parseReference } from "./reference.ts";

const digest = digestOf("image");

describe("parseReference fills in what is left out", () => {
  const cases = [
    ["alpine", "docker.io/library/alpine:latest"],
    ["alpine:3", "docker.io/library/alpine:3"],
    ["library/alpine", "docker.io/library/alpine:latest"],
    ["user/app", "docker.io/user/app:latest"],
    ["docker.io/alpine", "docker.io/library/alpine:latest"],
    ["index.docker.io/user/app:1", "docker.io/user/app:1"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/app:1", "localhost:5000/app:1"],
    ["localhost:5000", "docker.io/library/localhost:5000"],
    ["127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"],
    ["[::1]:5000/app", "[::1]:5000/app:latest"],
    ["registry.example/app", "registry.example/app:latest"],
    ["Registry.Example/app:V1", "Registry.Example/app:V1"],
    [`alpine@${digest}`, `docker.io/library/alpine@${digest}`],
    [`alpine:3@${digest}`, `docker.io/library/alpine:3@${digest}`],
    ["user/a--b__c.d", "docker.io/user/a--b__c.d:latest"],
  ] as const;
  for (const [text, want] of cases) {
    test(`${text} is ${want}`, () => {
      assert.equal(formatReference(parseReference(text)), want);
    });
  }
});

describe("parseReference says what is wrong", () => {
  const cases = [
    ["", /it is empty/],
    ["a".repeat(64), /64 hex digits/],
    ["x".repeat(1025), /1025 characters/],
    [`docker.io/${"x".repeat(256)}`, /repository has 264 characters/],
    ["Alpine", /upper-case/],
    ["registry.example/App", /upper-case/],
    ["alpine:", /tag ""/],
    ["alpine:-x", /tag "-x"/],
    [`alpine:${"x".repeat(129)}`, /tag/],
    ["alpine@sha256:abc", /digest/],
    [`alpine@md5:${"0".repeat(32)}`, /digest/],
    [`alpine@${digest.toUpperCase()}`, /digest/],
    ["alpine@", /digest/],
    ["a//b", /empty component/],
    ["/a", /empty component/],
    ["a/", /empty component/],
    ["a___b", /component "a___b"/],
    ["a..b/c", /"a..b" is no host name/],
    ["-a.example/b", /no host name/],
    ["host:port/b", /no host name/],
    ["host:99999/b", /port above 65535/],
    ["../etc/passwd", /no host name/],
    ["https://registry.example/app", /"https:" is no host name/],
    ["alpine latest", /component "alpine latest"/],
    ["alpine\0", /component/],
    ["user@registry.example/app", /digest/],
  ] as const;
  for (const [text, want] of cases) {
    test(`${JSON.stringify(text.slice(0, 40))}: ${want.source}`, () => {
      assert.throws(
        () => parseReference(text),
        (error) => error instanceof InvalidArgumentError && want.test(error.message),
      );
    });
  }
});

test("a reference is read back from its text", () => {
  const component = fc.stringMatching(/^[a-z0-9]+(?:[._-][a-z0-9]+)?$/);
  const reference = fc.record(
    {
      domain: fc.constantFrom(
        "docker.io",
        "localhost",
        "localhost:1",
        "r.example",
        "10.0.0.1:5000",
        "[::1]:80",
      ),
      repository: fc.array(component, { minLength: 2, maxLength: 4 }).map((parts) => parts.join("/")),
      tag: fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(reference, fc.boolean(), (parts, withDigest) => {
      const whole = withDigest ? { ...parts, digest } : parts;
      assert.deepEqual(parseReference(formatReference(whole)), whole);
    }),
  );
});

test("any text is a reference that is read back, or InvalidArgument with a short message", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.stringMatching(/^[a-zA-Z0-9.:/@_[\]-]{0,80}$/),
    fc.string({ minLength: 900, maxLength: 3000 }),
  );
  fc.assert(
    fc.property(text, (input) => {
      try {
        const reference = parseReference(input);
        assert.deepEqual(parseReference(formatReference(reference)), reference);
      } catch (error) {
        assert.ok(error instanceof InvalidArgumentError);
        assert.ok(error.message.length < 4000);
      }
    }),
    { numRuns: 1000 },
  );
});
