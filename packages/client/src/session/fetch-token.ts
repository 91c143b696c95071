import type { Credentials } from "@oci-worker/credentials/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import {
  InvalidArgumentError,
  PermissionDeniedError,
  type ServiceError,
  UnauthenticatedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { Fields, parseDocument } from "@oci-worker/oci/document";

/** What a registry's challenge says about getting a token (distribution, docs/spec/auth/token.md). */
export interface TokenRequest {
  /** URL of the token server. */
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
  /** What asks, for the token server's records. */
  readonly clientID: string;
}

export interface Token {
  readonly token: Secret;
  readonly lifetimeSeconds: number;
  /** When it was issued, in seconds since 1970, if the server says so. */
  readonly issuedAtSeconds: number | undefined;
}

/** A token server that has not answered by then is treated as down. */
const patienceMs = 30_000;

/** Lifetime of a token whose server does not say (distribution, docs/spec/auth/token.md). */
const defaultLifetimeSeconds = 60;

/** A token has some kilobytes; more is no token. */
const maxAnswerBytes = 1024 * 1024;

/** Answers with which token servers say that they know only the older form of request. */
const wantsGet: ReadonlySet<number> = new Set([401, 404, 405]);

/**
 * Gets a token from the token server of a registry: with credentials by OAuth2's POST, or by the GET of older servers;
 * without any by GET.
 *
 * @throws {InvalidArgumentError} if the realm is no http or https URL.
 * @throws {UnauthenticatedError} if the server does not accept the credentials.
 * @throws {PermissionDeniedError} if it accepts them but gives no such token.
 * @throws {UnavailableError} if it cannot be reached or answers nonsense.
 */
export async function fetchToken(
  request: TokenRequest,
  credentials: Exclude<Credentials, { kind: "registry-token" }> | undefined,
  signal: AbortSignal | undefined,
): Promise<Token> {
  const realm = parseRealm(request.realm);
  const patience = AbortSignal.timeout(patienceMs);
  const ends = signal === undefined ? patience : AbortSignal.any([signal, patience]);
  if (credentials === undefined) {
    return tokenIn(await get(realm, request, undefined, ends), realm);
  }
  const posted = await post(realm, request, credentials, ends);
  if (!wantsGet.has(posted.status)) {
    return tokenIn(posted, realm);
  }
  await posted.body?.cancel();
  return tokenIn(await get(realm, request, credentials, ends), realm);
}

function parseRealm(realm: string): URL {
  const url = URL.parse(realm);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new InvalidArgumentError(
      `Cannot get token from ${JSON.stringify(realm.slice(0, 200))}: want an http or https URL`,
    );
  }
  return url;
}

type TokenCredentials = Exclude<Credentials, { kind: "registry-token" }>;

function post(
  realm: URL,
  { service, scopes, clientID }: TokenRequest,
  credentials: TokenCredentials,
  signal: AbortSignal,
): Promise<Response> {
  const form = new URLSearchParams({ service, client_id: clientID });
  if (scopes.length > 0) {
    form.set("scope", scopes.join(" "));
  }
  if (credentials.kind === "password") {
    form.set("grant_type", "password");
    form.set("username", credentials.username);
    form.set("password", credentials.password.reveal());
  } else {
    form.set("grant_type", "refresh_token");
    form.set("refresh_token", credentials.token.reveal());
  }
  // A redirect would take the password elsewhere.
  return ask(realm, { method: "POST", body: form, redirect: "manual", signal });
}

function get(
  realm: URL,
  { service, scopes }: TokenRequest,
  credentials: TokenCredentials | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const url = new URL(realm);
  if (service !== "") {
    url.searchParams.append("service", service);
  }
  for (const scope of scopes) {
    url.searchParams.append("scope", scope);
  }
  if (credentials === undefined) {
    return ask(url, { signal });
  }
  const [username, secret] =
    credentials.kind === "password" ? [credentials.username, credentials.password] : ["", credentials.token];
  const basic = Buffer.from(`${username}:${secret.reveal()}`).toString("base64");
  return ask(url, { headers: { authorization: `Basic ${basic}` }, redirect: "manual", signal });
}

async function ask(url: URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, {
      ...init,
      headers: { accept: "application/json", "user-agent": "oci-worker", ...init.headers },
    });
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const why = reason instanceof Error ? reason.message : String(reason);
    throw new UnavailableError(`failed to fetch oauth token: cannot reach ${url.host}: ${why}`, { cause });
  }
}

async function tokenIn(response: Response, realm: URL): Promise<Token> {
  if (!response.ok) {
    await response.body?.cancel();
    throw refusal(response, realm);
  }
  const what = `token of ${realm.host}`;
  const fields = new Fields(what, parseDocument(what, await boundedBody(response, realm)));
  const token = fields.text("access_token") || fields.text("token") || "";
  if (token === "") {
    throw new UnavailableError(`failed to fetch oauth token: ${realm.host} answered without a token`);
  }
  const lifetimeSeconds = fields.has("expires_in") ? fields.size("expires_in") : 0;
  const issuedAtMs = Date.parse(fields.text("issued_at") ?? "");
  return {
    token: new Secret(token),
    lifetimeSeconds: lifetimeSeconds || defaultLifetimeSeconds,
    issuedAtSeconds: Number.isNaN(issuedAtMs) ? undefined : Math.floor(issuedAtMs / 1000),
  };
}

/** The words are BuildKit's, since users and their tests know them. */
function refusal({ status, statusText }: Response, realm: URL): ServiceError {
  const message = `failed to fetch oauth token: unexpected status from ${realm.origin}${realm.pathname}: ${status} ${statusText}`;
  switch (status) {
    case 401:
      return new UnauthenticatedError(message);
    case 403:
      return new PermissionDeniedError(message);
    default:
      return new UnavailableError(message);
  }
}

async function boundedBody(response: Response, realm: URL): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) {
      throw new UnavailableError(`failed to fetch oauth token: ${realm.host} answered too much`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
