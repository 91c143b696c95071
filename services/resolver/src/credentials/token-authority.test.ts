import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { describe, test } from "node:test";
import { PermissionDeniedError } from "@oci-worker/errdefs";
import type { SessionAuth, TokenAuthorityChallenge } from "./session-auth.ts";
import { proveTokenAuthority } from "./token-authority.ts";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const rawPublicKey = Buffer.from(publicKey.export({ format: "jwk" }).x ?? "", "base64url");
const signal = new AbortController().signal;

/** A client that answers `prove` to a challenge, and shows `shown` as its key. */
function prove(
  answer: (challenge: TokenAuthorityChallenge) => Uint8Array,
  shown: Uint8Array = rawPublicKey,
): Promise<string> {
  const sessions: Pick<SessionAuth, "tokenAuthority" | "proveTokenAuthority"> = {
    tokenAuthority: () => Promise.resolve(shown),
    proveTokenAuthority: (_, challenge) => Promise.resolve(answer(challenge)),
  };
  return proveTokenAuthority(sessions, "session", "registry.example", signal);
}

function signed(payload: Uint8Array, key = privateKey): Buffer {
  return Buffer.concat([sign(null, payload, key), payload]);
}

describe("proveTokenAuthority", () => {
  test("gives the key that the client has proved to hold", async () => {
    assert.equal(await prove(({ payload }) => signed(payload)), rawPublicKey.toString("hex"));
  });

  test("asks for a new proof each time, about this host, with one salt", async () => {
    const challenges: TokenAuthorityChallenge[] = [];
    for (let count = 0; count < 2; count += 1) {
      await prove((challenge) => {
        challenges.push(challenge);
        return signed(challenge.payload);
      });
    }
    const [first, second] = challenges;
    assert.notDeepEqual(first?.payload, second?.payload);
    assert.deepEqual(first?.salt, second?.salt);
    assert.deepEqual([first?.host, first?.payload.length, first?.salt.length], ["registry.example", 32, 32]);
  });

  const other = generateKeyPairSync("ed25519").privateKey;
  const old = Buffer.alloc(32);
  const cases: readonly [string, (challenge: TokenAuthorityChallenge) => Uint8Array][] = [
    ["by another key", ({ payload }) => signed(payload, other)],
    ["of something else", () => signed(old)],
    [
      "of something else, with the right thing behind it",
      ({ payload }) => Buffer.concat([sign(null, old, privateKey), payload]),
    ],
    ["that is none", () => Buffer.alloc(0)],
    ["that is too long", ({ payload }) => Buffer.concat([signed(payload), Buffer.from("x")])],
    ["of nothing but zeros", ({ payload }) => Buffer.concat([Buffer.alloc(64), payload])],
  ];
  for (const [name, answer] of cases) {
    test(`refuses a proof ${name}`, async () => {
      await assert.rejects(prove(answer), PermissionDeniedError);
    });
  }

  test("refuses a key of another length", async () => {
    for (const shown of [Buffer.alloc(0), Buffer.concat([rawPublicKey, Buffer.alloc(1)])]) {
      await assert.rejects(
        prove(({ payload }) => signed(payload), shown),
        PermissionDeniedError,
      );
    }
  });
});
