import { execFile } from "node:child_process";
import { createPrivateKey, type KeyObject, randomBytes, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { TokenAccess } from "./registry.ts";

/** A user of the token server. */
export interface TokenUser {
  readonly password: string;
  /** Identity token that stands for the password at the OAuth2 endpoint. */
  readonly identityToken?: string;
  /** Repositories that the user may read and write. */
  readonly repositories: readonly string[];
}

export interface TokenServerOptions {
  /** By name. */
  readonly users?: Readonly<Record<string, TokenUser>>;
  /** Repositories that anybody may read. */
  readonly publicRepositories?: readonly string[];
  /** Lifetime of tokens. */
  readonly lifetimeSeconds?: number;
  /** Whether there is an OAuth2 endpoint, at the same URL, for POST. */
  readonly hasOAuth?: boolean;
}

/** A request for a token, as the server has seen it. */
export interface SeenTokenRequest {
  readonly method: string;
  /** Name of the user who has shown the right password or identity token; undefined for anybody. */
  readonly user: string | undefined;
  readonly scopes: readonly string[];
  readonly service: string;
}

/** Answers a request in another way than it should be. True: it has. */
export type Interference = (
  response: ServerResponse,
  request: SeenTokenRequest,
) => boolean | Promise<boolean>;

/** A token server for docker-registry, in this process, on loopback. */
export interface TokenServer extends AsyncDisposable {
  /** What a registry has to know to trust it. */
  readonly access: TokenAccess;
  readonly requests: readonly SeenTokenRequest[];
  /** All tokens that it has given out. */
  readonly issued: readonly string[];
  /** Set to make it fail, hang or lie. */
  interfere: Interference | undefined;
  /** How far its clock is ahead of ours. With one that is far behind, a token has expired when it comes. */
  skewSeconds: number;
}

/** What a test changes while the server runs. */
type Conduct = Pick<TokenServer, "interfere" | "skewSeconds">;

const service = "test registry";
const issuer = "test token server";

/** Starts a token server with a key of its own. */
export async function startTokenServer(options: TokenServerOptions = {}): Promise<TokenServer> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "token-server-")));
  const signer = await createSigner(directory.path);
  const requests: SeenTokenRequest[] = [];
  const issued: string[] = [];
  const conduct: Conduct = { interfere: undefined, skewSeconds: 0 };
  const server = createServer((incoming, response) => {
    answer(incoming, response, options, signer, conduct, requests, issued).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const { port } = server.address() as AddressInfo;
  const realm = `http://127.0.0.1:${port}/token`;
  const owned = undo.move();
  return Object.assign(conduct, {
    access: { kind: "token" as const, realm, service, issuer, certFile: signer.certFile },
    requests,
    issued,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  });
}

interface Signer {
  readonly key: KeyObject;
  readonly certFile: string;
  readonly certificate: X509Certificate;
}

/** A key and the certificate by which a registry knows it; only openssl makes certificates here. */
async function createSigner(directory: string): Promise<Signer> {
  const [certFile, keyFile] = [join(directory, "token.pem"), join(directory, "token.key")];
  await promisify(execFile)("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"],
    ...["-subj", "/CN=test token server", "-keyout", keyFile, "-out", certFile],
  ]);
  return {
    key: createPrivateKey(await readFile(keyFile)),
    certFile,
    certificate: new X509Certificate(await readFile(certFile)),
  };
}

async function answer(
  incoming: IncomingMessage,
  response: ServerResponse,
  options: TokenServerOptions,
  signer: Signer,
  conduct: Conduct,
  requests: SeenTokenRequest[],
  issued: string[],
): Promise<void> {
  const method = incoming.method ?? "";
  const parameters = await parametersOf(incoming);
  const login = loginOf(incoming, parameters, options.users ?? {});
  const scopes = parameters.getAll("scope").flatMap((scope) => scope.split(" "));
  const request = { method, user: login.user, scopes, service: parameters.get("service") ?? "" };
  requests.push(request);
  if (await conduct.interfere?.(response, request)) {
    return;
  }
  if (method === "POST" && options.hasOAuth !== true) {
    response.writeHead(404).end();
  } else if (login.isWrong) {
    response.writeHead(401, { "content-type": "application/json" }).end('{"details":"wrong password"}');
  } else {
    const lifetimeSeconds = options.lifetimeSeconds ?? 300;
    const nowSeconds = Math.floor(Date.now() / 1000) + conduct.skewSeconds;
    const token = tokenFor(request, options, signer, { nowSeconds, lifetimeSeconds });
    issued.push(token);
    const body = { [method === "POST" ? "access_token" : "token"]: token, expires_in: lifetimeSeconds };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  }
}

async function parametersOf(incoming: IncomingMessage): Promise<URLSearchParams> {
  if (incoming.method !== "POST") {
    return new URL(incoming.url ?? "", "http://localhost").searchParams;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) {
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString());
}

function loginOf(
  { headers: { authorization } }: IncomingMessage,
  form: URLSearchParams,
  users: Readonly<Record<string, TokenUser>>,
): { readonly user: string | undefined; readonly isWrong: boolean } {
  const entries = Object.entries(users);
  if (form.get("grant_type") === "refresh_token") {
    const known = entries.find(([, { identityToken }]) => identityToken === form.get("refresh_token"));
    return { user: known?.[0], isWrong: known === undefined };
  }
  const pair =
    form.get("grant_type") === "password"
      ? `${form.get("username")}:${form.get("password")}`
      : Buffer.from(authorization?.replace(/^Basic /, "") ?? "", "base64").toString();
  const known = entries.find(([name, { password }]) => pair === `${name}:${password}`);
  return { user: known?.[0], isWrong: pair !== "" && known === undefined };
}

/** A JSON web token with as much of what is asked for as the user may have, as docker-registry reads it. */
function tokenFor(
  { user, scopes }: SeenTokenRequest,
  { users = {}, publicRepositories = [] }: TokenServerOptions,
  { key, certificate }: Signer,
  { nowSeconds, lifetimeSeconds }: { readonly nowSeconds: number; readonly lifetimeSeconds: number },
): string {
  const own = (user === undefined ? undefined : users[user]?.repositories) ?? [];
  const access = scopes.flatMap((scope) => {
    const [type = "", name = "", actions = ""] = scope.split(":");
    const asked = actions.split(",");
    const allowed = own.includes(name) ? asked : publicRepositories.includes(name) ? ["pull"] : [];
    return [{ type, name, actions: asked.filter((action) => allowed.includes(action)) }];
  });
  const header = { typ: "JWT", alg: "ES256", x5c: [certificate.raw.toString("base64")] };
  const claims = {
    iss: issuer,
    sub: user ?? "",
    aud: service,
    iat: nowSeconds,
    nbf: nowSeconds - 1,
    exp: nowSeconds + lifetimeSeconds,
    jti: randomBytes(8).toString("hex"),
    access,
  };
  const signed = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  const signature = sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}
