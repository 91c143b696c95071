import { setTimeout as sleep } from "node:timers/promises";
import { PermissionDeniedError, UnavailableError } from "@oci-worker/errdefs";
import type { HttpClient } from "@oci-worker/registry/http";
import { bytesBody, type HttpRequest } from "@oci-worker/registry/request";
import type { Credentials, Token, TokenRequest } from "../credentials/identity.ts";
import { maxAnswerBytes, parseTokenAnswer } from "./token-answer.ts";

/** What it takes to talk to token servers. */
export interface TokenFetcher {
  readonly http: HttpClient;
  /** Waits before a retry; tests pass one that does not. */
  readonly delay?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Name by which we introduce ourselves to OAuth2 endpoints. */
export const clientID = "oci-worker";

/** Pauses before a token server that failed is asked again. A build waits meanwhile. */
const pausesMs: readonly number[] = [500, 1500];

/** Statuses of a GET with a password after which the OAuth2 endpoint is tried: containerd's, with its reasons. */
const triesOAuth: ReadonlySet<number> = new Set([401, 404, 405]);

/** Statuses that refuse us for good; OAuth2 says 400 for a password that is wrong (RFC 6749, 5.2). */
const refusals: ReadonlySet<number> = new Set([400, 401, 403]);

/**
 * Asks a token server for a token: with `credentials`, or as nobody in particular.
 *
 * @throws {PermissionDeniedError} if it refuses.
 * @throws {UnavailableError} if it cannot be reached, or answers nonsense.
 */
export async function fetchToken(
  fetcher: TokenFetcher,
  request: TokenRequest,
  credentials: Credentials | undefined,
  signal: AbortSignal,
): Promise<Token> {
  for (const pauseMs of pausesMs) {
    try {
      return await fetchOnce(fetcher, request, credentials, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ServerFailure)) {
        throw error;
      }
    }
    await (fetcher.delay ?? pause)(pauseMs, signal);
  }
  return await fetchOnce(fetcher, request, credentials, signal);
}

/** A failure of the server that may pass. */
class ServerFailure extends UnavailableError {}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal });
}

async function fetchOnce(
  fetcher: TokenFetcher,
  request: TokenRequest,
  credentials: Credentials | undefined,
  signal: AbortSignal,
): Promise<Token> {
  const { tls } = request;
  const send = (parts: Omit<HttpRequest, "purpose" | "tls">) =>
    ask(fetcher.http, { ...parts, purpose: "get token", ...(tls && { tls }) }, signal);
  if (credentials === undefined) {
    return tokenIn(await send({ method: "GET", url: tokenUrl(request) }));
  }
  if (credentials.username === "") {
    return tokenIn(await send(oauthRequest(request, credentials)));
  }
  const { username, secret } = credentials;
  const basic = Buffer.from(`${username}:${secret.reveal()}`).toString("base64");
  const answer = await send({
    method: "GET",
    url: tokenUrl(request),
    originHeaders: { authorization: `Basic ${basic}` },
  });
  if (!triesOAuth.has(answer.status)) {
    return tokenIn(answer);
  }
  const second = await send(oauthRequest(request, credentials));
  // A server without that endpoint says so by any status; that it refuses the password it has said before.
  return tokenIn(answer.status === 401 && second.status !== 200 ? answer : second);
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly server: string;
}

async function ask(http: HttpClient, request: HttpRequest, signal: AbortSignal): Promise<Answer> {
  const server = request.url.host;
  try {
    using response = await http.send(request, signal);
    return { status: response.status, body: await response.bytes(maxAnswerBytes), server };
  } catch (cause) {
    signal.throwIfAborted();
    throw cause instanceof UnavailableError ? new ServerFailure(cause.message, { cause }) : cause;
  }
}

function tokenIn({ status, body, server }: Answer): Token {
  if (status === 200) {
    return parseTokenAnswer(body, server, Date.now());
  }
  // Without the body: a server may repeat in it what it was sent.
  const message = `Cannot get token from ${server}: it answered HTTP ${status}`;
  if (refusals.has(status)) {
    throw new PermissionDeniedError(message);
  }
  throw status >= 500 || status === 429 || status === 408
    ? new ServerFailure(message)
    : new UnavailableError(message);
}

/** The request of Docker's token protocol, which may have a query of its own already. */
function tokenUrl({ realm, service, scopes }: TokenRequest): URL {
  const url = new URL(realm);
  if (service !== "") {
    url.searchParams.append("service", service);
  }
  for (const scope of scopes) {
    url.searchParams.append("scope", scope);
  }
  return url;
}

/** The request of OAuth2's token endpoint (RFC 6749, 4.3.2 and 6), which names scopes in one parameter. */
function oauthRequest({ realm, service, scopes }: TokenRequest, { username, secret }: Credentials) {
  const form = new URLSearchParams({ client_id: clientID, service, scope: scopes.join(" ") });
  if (username === "") {
    form.set("grant_type", "refresh_token");
    form.set("refresh_token", secret.reveal());
  } else {
    form.set("grant_type", "password");
    form.set("username", username);
    form.set("password", secret.reveal());
  }
  return {
    method: "POST",
    url: realm,
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: bytesBody(Buffer.from(form.toString())),
    sameOriginOnly: true,
  } as const;
}
