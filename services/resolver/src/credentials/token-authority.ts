import { createPublicKey, randomBytes, verify } from "node:crypto";
import { PermissionDeniedError } from "@oci-worker/errdefs";
import type { SessionAuth } from "./session-auth.ts";

const publicKeyBytes = 32;
const signatureBytes = 64;

/** Chosen anew by each process: the same user has another key for each, so that daemons cannot compare notes. */
const salt = randomBytes(32);

/**
 * The public key that stands for the user of a session at `host`, in hex, after the client has proved that it holds
 * the private one. So two sessions with the same key are the same user.
 *
 * @throws {PermissionDeniedError} if the proof does not hold.
 */
export async function proveTokenAuthority(
  sessions: Pick<SessionAuth, "tokenAuthority" | "proveTokenAuthority">,
  sessionID: string,
  host: string,
  signal: AbortSignal,
): Promise<string> {
  const publicKey = await sessions.tokenAuthority(sessionID, host, salt, signal);
  const payload = randomBytes(32);
  const signed = await sessions.proveTokenAuthority(sessionID, { host, payload, salt }, signal);
  if (!isSigned(signed, payload, publicKey)) {
    throw new PermissionDeniedError(
      `Cannot trust a session's token authority for ${host}: its client has not proved that it holds the key`,
    );
  }
  return Buffer.from(publicKey).toString("hex");
}

/** Whether `signed` is `payload` behind a signature of it by the owner of `publicKey` (the form of NaCl's sign). */
function isSigned(signed: Uint8Array, payload: Uint8Array, publicKey: Uint8Array): boolean {
  if (publicKey.length !== publicKeyBytes || signed.length !== signatureBytes + payload.length) {
    return false;
  }
  const isSamePayload = Buffer.from(signed.subarray(signatureBytes)).equals(payload);
  const x = Buffer.from(publicKey).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return isSamePayload && verify(null, payload, key, signed.subarray(0, signatureBytes));
}
