import { setTimeout as sleep } from "node:timers/promises";
import { PermissionDeniedError, UnavailableError } from "@oci-worker/errdefs";
import type { HttpClient } from "@oci-worker/registry/http";
import { bytesBody, type HttpRequest } from "@oci-worker/registry/request";
import { retryAfterMs } from "@oci-worker/registry/retry-after";
import type { Credentials, Token, TokenRequest } from "../credentials/identity.ts";
import { maxAnswerBytes, parseTokenAnswer } from "./token-answer.ts";

/** What it takes to talk to token servers. */
export interface TokenFetcher {
  readonly http: HttpClient;
  /** Waits before a retry; tests pass one that does not. */
  readonly delay?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** How long one request may take, from its start to the last byte of the answer; tests pass less. */
  readonly attemptTimeoutMs?: number;
}

/** Name by which we introduce ourselves to OAuth2 endpoints. */
export const clientID = "oci-worker";

/** Pauses before a token server that failed is asked again. A build waits meanwhile. */
const pausesMs: readonly number[] = [500, 1500];

/** Pauses differ by up to this share, so that those who failed together do not come back together. */
const jitter = 0.2;

/** Longest wait that a server may ask of a caller; where it asks for more, the caller is told. */
const maxRetryAfterMs = 5000;

/** Three times this, and the pauses, fit into the default of `tokenTimeoutMs`: one that hangs is tried again. */
const defaultAttemptTimeoutMs = 8000;

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
  return await withRetries(fetcher, () => fetchOnce(fetcher, request, credentials, signal), signal);
}

/** What `attempt` gives, which is made again after a pause, and again, when it fails with a {@link TokenServerFailure}. */
export async function withRetries<T>(
  { delay = pause }: Pick<TokenFetcher, "delay">,
  attempt: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (const pauseMs of pausesMs) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TokenServerFailure) || error.retryAfterMs > maxRetryAfterMs) {
        throw error;
      }
      const waitMs = Math.max(error.retryAfterMs, pauseMs * (1 - jitter + 2 * jitter * Math.random()));
      await delay(waitMs, signal);
    }
  }
  return await attempt();
}

/** A failure of a token server that may pass. */
export class TokenServerFailure extends UnavailableError {
  /** How long the server wants to be left alone; 0 if it does not say. */
  readonly retryAfterMs: number;

  constructor(message: string, options?: ErrorOptions & { readonly retryAfterMs?: number | undefined }) {
    super(message, options);
    this.retryAfterMs = options?.retryAfterMs ?? 0;
  }
}

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
    ask(fetcher, { ...parts, purpose: "get token", ...(tls && { tls }) }, signal);
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
  readonly retryAfterMs: number | undefined;
}

async function ask(
  { http, attemptTimeoutMs = defaultAttemptTimeoutMs }: TokenFetcher,
  request: HttpRequest,
  signal: AbortSignal,
): Promise<Answer> {
  const server = request.url.host;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(attemptTimeoutMs)]);
  try {
    using response = await http.send(request, limit);
    return {
      status: response.status,
      body: await response.bytes(maxAnswerBytes),
      server,
      retryAfterMs: retryAfterMs(response.header("retry-after"), Date.now()),
    };
  } catch (cause) {
    signal.throwIfAborted();
    if (limit.aborted) {
      throw new TokenServerFailure(
        `Cannot get token from ${server}: it did not answer within ${attemptTimeoutMs} ms`,
      );
    }
    throw cause instanceof UnavailableError ? new TokenServerFailure(cause.message, { cause }) : cause;
  }
}

function tokenIn({ status, body, server, retryAfterMs: askedMs }: Answer): Token {
  if (status === 200) {
    return parseTokenAnswer(body, server, Date.now());
  }
  // Without the body: a server may repeat in it what it was sent.
  const message = `Cannot get token from ${server}: it answered HTTP ${status}`;
  if (refusals.has(status)) {
    throw new PermissionDeniedError(message);
  }
  throw status >= 500 || status === 429 || status === 408
    ? new TokenServerFailure(message, { retryAfterMs: askedMs })
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
