import { createHmac, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { SessionAuthService } from "@oci-worker/api/ociworker/session";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";

/** A client of a build, with what it knows of registries. */
export interface FakeClient {
  readonly username: string;
  readonly secret: string;
  /** Seed of the keys that stand for its user; absent: the client has no token authority. */
  readonly seed?: string;
  /** Whether it signs with another key than the one it shows. */
  readonly isImpostor?: boolean;
  /** Images that its builds have used. */
  readonly references?: readonly string[];
}

/** The worker's side of ociworker.session.v1, with clients that a test lets come and go. */
export interface FakeSessionService extends AsyncDisposable {
  readonly address: string;
  /** By session id. */
  readonly clients: Map<string, FakeClient>;
  /** What the clients were asked, such as "session-1 GetCredentials". */
  readonly calls: string[];
}

/** Serves sessions on a socket of its own. */
export async function startSessionService(
  clients: Readonly<Record<string, FakeClient>> = {},
): Promise<FakeSessionService> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "sessions-")));
  const address = join(directory.path, "session.sock");
  const attached = new Map(Object.entries(clients));
  const calls: string[] = [];
  undo.use(
    await serve({
      addresses: [{ path: address, mode: 0o600 }],
      implementations: [implement(SessionAuthService, handlers(attached, calls))],
    }),
  );
  const owned = undo.move();
  return { address, clients: attached, calls, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function handlers(clients: ReadonlyMap<string, FakeClient>, calls: string[]) {
  const clientOf = (sessionId: string, method: string): FakeClient => {
    calls.push(`${sessionId} ${method}`);
    const client = clients.get(sessionId);
    if (client === undefined) {
      throw new ConnectError(`no active session for ${sessionId}`, Code.NotFound);
    }
    return client;
  };
  return {
    listSessions: ({ sessionIds, reference }: { sessionIds: string[]; reference: string }) => ({
      sessions: [...clients]
        .filter(([id]) => sessionIds.length === 0 || sessionIds.includes(id))
        .filter(([, { references = [] }]) => reference === "" || references.includes(reference))
        .map(([id, client]) => ({
          id,
          methods: methodsOf(client),
          references: [...(client.references ?? [])],
          attachedAt: timestampFromMs(1_000_000),
        })),
    }),
    getCredentials: ({ sessionId }: { sessionId: string }) => {
      const { username, secret } = clientOf(sessionId, "GetCredentials");
      return { username, secret };
    },
    getTokenAuthority: ({ sessionId, host, salt }: { sessionId: string; host: string; salt: Uint8Array }) => {
      const key = keyOf(clientOf(sessionId, "GetTokenAuthority"), host, salt);
      const { x = "" } = createPublicKey(key).export({ format: "jwk" });
      return { publicKey: Buffer.from(x, "base64url") };
    },
    verifyTokenAuthority: ({
      sessionId,
      host,
      payload,
      salt,
    }: {
      sessionId: string;
      host: string;
      payload: Uint8Array;
      salt: Uint8Array;
    }) => {
      const client = clientOf(sessionId, "VerifyTokenAuthority");
      const shown = client.isImpostor ? { ...client, seed: "another" } : client;
      return { signed: Buffer.concat([sign(null, payload, keyOf(shown, host, salt)), payload]) };
    },
    fetchToken: (request: TokenQuery) => fetchToken(clientOf(request.sessionId, "FetchToken"), request),
  };
}

interface TokenQuery {
  readonly sessionId: string;
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
}

function methodsOf({ seed }: FakeClient): string[] {
  const authority = ["fetchtoken", "gettokenauthority", "verifytokenauthority"];
  return ["credentials", ...(seed === undefined ? [] : authority)].map(
    (method) => `/moby.filesync.v1.auth/${method}`,
  );
}

/** The key that stands for a user at a registry towards one daemon, derived as BuildKit's clients do it. */
function keyOf({ seed = "" }: FakeClient, host: string, salt: Uint8Array): KeyObject {
  const bytes = createHmac("sha256", salt).update(`${seed} ${host}`).digest();
  // RFC 8410: the DER of an Ed25519 private key is this and its 32 bytes.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), bytes]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

/** What a client does for a FetchToken: it asks the token server with its own password. */
async function fetchToken({ username, secret }: FakeClient, { realm, service, scopes }: TokenQuery) {
  const url = new URL(realm);
  url.searchParams.set("service", service);
  for (const scope of scopes) {
    url.searchParams.append("scope", scope);
  }
  const authorization = `Basic ${Buffer.from(`${username}:${secret}`).toString("base64")}`;
  const response = await fetch(url, { headers: username === "" ? {} : { authorization } });
  if (!response.ok) {
    await response.body?.cancel();
    // The words of BuildKit's clients.
    const status = `${response.status} ${response.status === 401 ? "Unauthorized" : "Error"}`;
    throw new ConnectError(`failed to fetch oauth token: unexpected status: ${status}`, Code.Unknown);
  }
  const { token, expires_in: expiresIn } = (await response.json()) as { token: string; expires_in: number };
  return { token, expiresInSeconds: BigInt(expiresIn) };
}
