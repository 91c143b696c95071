import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { authFor, helperFor, parseDockerConfig } from "./docker-config.ts";

function read(config: unknown) {
  return parseDockerConfig(Buffer.from(JSON.stringify(config)));
}

/** The best that the config says of `host`, in the clear. */
function plainAuth(config: unknown, host: string) {
  const [best] = authFor(read(config), host);
  switch (best?.kind) {
    case "password":
      return [best.username, best.password.reveal()];
    case "identity-token":
    case "registry-token":
      return [best.kind, best.token.reveal()];
    case undefined:
      return nothing;
  }
}

const nothing = ["none"];
const pair = Buffer.from("user:pass:word").toString("base64");

describe("authFor", () => {
  test("finds a registry by its host, or by the URL of its API", () => {
    for (const key of [
      "r.example:5000",
      "https://r.example:5000",
      "https://r.example:5000/v1/",
      "r.example:5000/v2/",
    ]) {
      assert.deepEqual(plainAuth({ auths: { [key]: { auth: pair } } }, "r.example:5000"), [
        "user",
        "pass:word",
      ]);
    }
    assert.deepEqual(plainAuth({ auths: { "r.example": { auth: pair } } }, "r.example:5000"), nothing);
  });

  test("finds Docker Hub under the name that it has there", () => {
    const config = { auths: { "https://index.docker.io/v1/": { auth: pair } } };
    assert.equal(plainAuth(config, "registry-1.docker.io")[0], "user");
    assert.deepEqual(plainAuth(config, "r.example"), nothing);
  });

  test("takes each way in which credentials are written", () => {
    const host = "r.example";
    const of = (auth: object) => plainAuth({ auths: { [host]: auth } }, host);
    assert.deepEqual(of({ username: "u", password: "p" }), ["u", "p"]);
    assert.deepEqual(of({ auth: pair, identitytoken: "i" }), ["identity-token", "i"]);
    assert.deepEqual(of({ registrytoken: "t" }), ["registry-token", "t"]);
    assert.deepEqual(of({ auth: Buffer.from("u:p\0\0").toString("base64") }), ["u", "p"]);
    assert.deepEqual(of({}), nothing);
    assert.deepEqual(of({ username: "u" }), nothing);
    assert.deepEqual(of({ auth: Buffer.from("u:").toString("base64") }), nothing);
  });

  test("gives all that an entry has, and an identity token in place of its password", () => {
    const auth = { auth: pair, registrytoken: "t", identitytoken: "i" };
    const kinds = (entry: object) =>
      authFor(read({ auths: { "r.example": entry } }), "r.example").map(({ kind }) => kind);
    assert.deepEqual(kinds(auth), ["registry-token", "identity-token"]);
    assert.deepEqual(kinds({ ...auth, identitytoken: "" }), ["registry-token", "password"]);
  });

  test("a bad entry is told when it is asked for, without its value, and spoils no other", () => {
    const config = { auths: { bad: { auth: "c4n4ry" }, worse: { auth: 7 }, good: { auth: pair } } };
    assert.equal(plainAuth(config, "good")[0], "user");
    for (const host of ["bad", "worse"]) {
      assert.throws(
        () => plainAuth(config, host),
        (error) => {
          assert.ok(error instanceof InvalidArgumentError);
          assert.match(error.message, new RegExp(`auths\\.${host}\\.auth: it is`));
          assert.doesNotMatch(error.message, /c4n4ry/);
          return true;
        },
      );
    }
  });
});

describe("helperFor", () => {
  test("a helper for the registry counts before that for all", () => {
    const config = read({ credHelpers: { "r.example": "own" }, credsStore: "all" });
    assert.deepEqual(helperFor(config, "r.example"), { name: "own", server: "r.example" });
    assert.deepEqual(helperFor(config, "other.example"), { name: "all", server: "other.example" });
    assert.deepEqual(helperFor(config, "registry-1.docker.io"), {
      name: "all",
      server: "https://index.docker.io/v1/",
    });
    assert.equal(helperFor(read({}), "r.example"), undefined);
    assert.equal(helperFor(read({ credHelpers: {} }), "toString"), undefined);
  });

  test("what is no name of a program is refused", () => {
    for (const name of ["../x", "a b", "a/b", "", "x".repeat(101)]) {
      assert.throws(() => helperFor(read({ credHelpers: { r: name } }), "r"), InvalidArgumentError);
    }
  });
});

test("a config is read or refused, whatever it is", () => {
  const config = fc.record(
    {
      auths: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue()),
      credHelpers: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  const bytes = fc.oneof(
    fc.uint8Array(),
    config.map((value) => Buffer.from(JSON.stringify(value))),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        const parsed = parseDockerConfig(input);
        for (const host of ["r.example", ...parsed.auths.keys()]) {
          authFor(parsed, host);
          helperFor(parsed, host);
        }
      } catch (error) {
        assert.ok(error instanceof InvalidArgumentError);
      }
    }),
  );
});
