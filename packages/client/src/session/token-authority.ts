import { createHmac, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import type { Credentials } from "@oci-worker/credentials/credentials";
import type { TokenSeeds } from "./token-seeds.ts";

/** PKCS #8 of an ed25519 key up to its 32 bytes (RFC 8410, 7). */
const privateKeyPrefix = Buffer.from("302e020100300506032b657004220420", "hex");

/** Bytes of a public key at the end of its SPKI (RFC 8410, 4). */
const publicKeyBytes = 32;

/**
 * The key by which a daemon recognises one user of one registry across sessions, without learning a secret: the same
 * user, credentials, registry and daemon give the same key, and tokens fetched for it may be used again.
 *
 * The daemon's salt makes it another key for every daemon; the seed keeps daemons from trying out passwords. BuildKit's
 * client leaves the credentials out, so there a wrong password is as good as the right one while a token lives.
 *
 * @param credentials undefined for anonymous use, which is the same identity for everybody.
 */
export async function authorityKey(
  host: string,
  salt: Uint8Array,
  credentials: Credentials | undefined,
  seeds: TokenSeeds,
): Promise<KeyObject> {
  const hmac = createHmac("sha256", salt);
  if (credentials !== undefined) {
    hmac.update(await seeds.seedFor(host));
    hmac.update(JSON.stringify(partsOf(credentials)));
  }
  const der = Buffer.concat([privateKeyPrefix, hmac.digest()]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

/** The 32 bytes of the public key. */
export function publicKeyOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-publicKeyBytes);
}

/** The form of NaCl's crypto_sign: the signature, then what was signed. */
export function signedMessage(key: KeyObject, payload: Uint8Array): Uint8Array {
  return Buffer.concat([sign(null, payload, key), payload]);
}

function partsOf(credentials: Credentials): string[] {
  return credentials.kind === "password"
    ? [credentials.kind, credentials.username, credentials.password.reveal()]
    : [credentials.kind, credentials.token.reveal()];
}
