import { createClient, type Transport } from "@connectrpc/connect";
import { type Session, SessionAuthService } from "@oci-worker/api/ociworker/session";
import { Secret } from "@oci-worker/credentials/secret";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import type { AuthMethod, LiveSession, SessionAuth } from "../credentials/session-auth.ts";
import { clientID } from "../token/fetch-token.ts";

/** The methods of the client's own service, as the worker lists them. */
const methodPaths: ReadonlyMap<string, AuthMethod> = new Map([
  ["/moby.filesync.v1.auth/credentials", "credentials"],
  ["/moby.filesync.v1.auth/fetchtoken", "fetchToken"],
  ["/moby.filesync.v1.auth/gettokenauthority", "getTokenAuthority"],
  ["/moby.filesync.v1.auth/verifytokenauthority", "verifyTokenAuthority"],
]);

/** The clients that are attached to the worker at the other end of `transport`. */
export function sessionAuthClient(transport: Transport): SessionAuth {
  const client = createClient(SessionAuthService, transport);
  return {
    async liveSessions({ sessionIDs, reference }, signal) {
      const [named, users] = await mapped(() =>
        Promise.all([
          sessionIDs.length === 0
            ? []
            : list(client.listSessions({ sessionIds: [...sessionIDs] }, { signal })),
          reference === undefined ? [] : list(client.listSessions({ reference }, { signal })),
        ]),
      );
      const inOrder = named.toSorted((a, b) => sessionIDs.indexOf(a.id) - sessionIDs.indexOf(b.id));
      const others = users.filter(({ id }) => !named.some((session) => session.id === id));
      return [...inOrder, ...others].map(liveSession);
    },

    async credentials(sessionId, host, signal) {
      const { username, secret } = await mapped(() => client.getCredentials({ sessionId, host }, { signal }));
      return secret === "" ? undefined : { username, secret: new Secret(secret) };
    },

    async fetchToken(sessionId, { host, realm, service, scopes }, signal) {
      const request = {
        sessionId,
        clientId: clientID,
        host,
        realm: realm.href,
        service,
        scopes: [...scopes],
      };
      const answer = await mapped(() => client.fetchToken(request, { signal }));
      const issuedAtMs = Number(answer.issuedAtUnix) * 1000;
      const seconds = Math.max(0, Number(answer.expiresInSeconds));
      return {
        value: new Secret(answer.token),
        lifetime: { seconds, ...(issuedAtMs > 0 && { issuedAtMs }) },
      };
    },

    async tokenAuthority(sessionId, host, salt, signal) {
      const request = { sessionId, host, salt };
      return (await mapped(() => client.getTokenAuthority(request, { signal }))).publicKey;
    },

    async proveTokenAuthority(sessionId, { host, payload, salt }, signal) {
      const request = { sessionId, host, payload, salt };
      return (await mapped(() => client.verifyTokenAuthority(request, { signal }))).signed;
    },
  };
}

async function list(response: Promise<{ sessions: Session[] }>): Promise<Session[]> {
  return (await response).sessions;
}

function liveSession({ id, methods, attachedAt }: Session): LiveSession {
  const known = methods.flatMap((path) => methodPaths.get(path.toLowerCase()) ?? []);
  const moment = attachedAt === undefined ? "" : `${attachedAt.seconds}.${attachedAt.nanos}`;
  return { id, methods: new Set(known), attachedAt: moment };
}

/** The meaning of what a call has failed with. */
async function mapped<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw fromConnectError(error);
  }
}
