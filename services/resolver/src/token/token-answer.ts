import { Secret } from "@oci-worker/credentials/secret";
import { UnavailableError } from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";
import type { Token } from "../credentials/identity.ts";

/** Longest answer of a token server, in bytes. */
export const maxAnswerBytes = 1024 * 1024;

/** What a token is good for if nobody says (distribution, "Token Authentication Specification"). */
const defaultLifetimeSeconds = 60;

/** Longest lifetime that is believed: a year. */
const maxLifetimeSeconds = 31_536_000;

/** A token is renewed when this share of its life is over. */
const renewalShare = 0.9;

/** What may stand in a header after "Bearer ". */
const headerText = /^[\x21-\x7e]+$/;

/** Longest token, in characters. The largest that are seen are some 10 KiB; no registry takes a header of this. */
const maxTokenLength = 64 * 1024;

export interface Lifetime {
  /** 0 if nobody says. */
  readonly seconds: number;
  /** Milliseconds since 1970; undefined if nobody says. */
  readonly issuedAtMs?: number;
}

/**
 * Reads the answer of a token server.
 *
 * @param server names it in errors.
 * @throws {UnavailableError} if it makes no sense.
 */
export function parseTokenAnswer(bytes: Uint8Array, server: string, nowMs: number): Token {
  try {
    const fields = new Fields("answer", parseDocument("answer", bytes, maxAnswerBytes));
    const text = fields.text("token") || fields.text("access_token") || "";
    const seconds = fields.has("expires_in") ? fields.size("expires_in") : 0;
    const issuedAtMs = Date.parse(fields.text("issued_at") ?? "");
    return tokenOf(text, { seconds, ...(!Number.isNaN(issuedAtMs) && { issuedAtMs }) }, nowMs);
  } catch (cause) {
    throw new UnavailableError(`Cannot get token from ${server}: its answer has no token in it`, { cause });
  }
}

/**
 * A token with the moment at which to renew it.
 *
 * @throws {UnavailableError} if `text` cannot be a token.
 */
export function tokenOf(text: string, { seconds, issuedAtMs }: Lifetime, nowMs: number): Token {
  if (text.length > maxTokenLength || !headerText.test(text)) {
    throw new UnavailableError(
      "Cannot use token: it is empty, too long, or has characters that no header may have",
    );
  }
  const lifetimeSeconds = seconds > 0 ? Math.min(seconds, maxLifetimeSeconds) : defaultLifetimeSeconds;
  const usableMs = lifetimeSeconds * 1000 * renewalShare;
  // A token that was kept by the server has been growing old there. One that comes from the future, or would be dead on
  // arrival, comes from another clock: then its life begins now.
  const isPlausible = issuedAtMs !== undefined && issuedAtMs <= nowMs && issuedAtMs + usableMs > nowMs;
  const bornAtMs = isPlausible ? issuedAtMs : nowMs;
  return {
    value: new Secret(text),
    renewAtMs: bornAtMs + usableMs,
    expiresAtMs: bornAtMs + lifetimeSeconds * 1000,
  };
}
