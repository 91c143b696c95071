import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type ServiceImpl } from "@connectrpc/connect";
import type { SessionAuthService } from "@oci-worker/api/ociworker/session";
import { Auth } from "@oci-worker/api/session/auth";
import { UnimplementedError } from "@oci-worker/errdefs";
import type { Session } from "../session/session.ts";
import type { SessionManager } from "../session/session-manager.ts";

/** A client that is asked for credentials may have to ask a person. */
const authTimeoutMs = 60_000;

/**
 * Serves ociworker.session.v1.SessionAuthService: the resolver's way to the credentials of the clients that are
 * attached. What they answer is passed on and kept nowhere.
 */
export function sessionAuthService(sessions: SessionManager): ServiceImpl<typeof SessionAuthService> {
  async function authOf(sessionID: string, method: string, signal: AbortSignal): Promise<AuthCall> {
    const session = await sessions.get(sessionID, 0, signal);
    if (!session.supports(`/${Auth.typeName}/${method}`)) {
      throw new UnimplementedError(`method /${Auth.typeName}/${method} not supported by the client`);
    }
    const options = { signal: AbortSignal.any([signal, session.signal]), timeoutMs: authTimeoutMs };
    return { client: createClient(Auth, session.channel), options };
  }
  return {
    listSessions: ({ sessionIds, reference }) => {
      const wanted = (session: Session) =>
        (sessionIds.length === 0 || sessionIds.includes(session.id)) &&
        (reference === "" || session.references.has(reference));
      return { sessions: sessions.live().filter(wanted).map(sessionToProto) };
    },

    async getCredentials({ sessionId, host }, { signal }) {
      const { client, options } = await authOf(sessionId, Auth.method.credentials.name, signal);
      const { Username, Secret } = await client.credentials({ Host: host }, options);
      return { username: Username, secret: Secret };
    },

    async fetchToken({ sessionId, clientId, host, realm, service, scopes }, { signal }) {
      const { client, options } = await authOf(sessionId, Auth.method.fetchToken.name, signal);
      const request = { ClientID: clientId, Host: host, Realm: realm, Service: service, Scopes: scopes };
      const { Token, ExpiresIn, IssuedAt } = await client.fetchToken(request, options);
      return { token: Token, expiresInSeconds: ExpiresIn, issuedAtUnix: IssuedAt };
    },

    async getTokenAuthority({ sessionId, host, salt }, { signal }) {
      const { client, options } = await authOf(sessionId, Auth.method.getTokenAuthority.name, signal);
      const { PublicKey } = await client.getTokenAuthority({ Host: host, Salt: salt }, options);
      return { publicKey: PublicKey };
    },

    async verifyTokenAuthority({ sessionId, host, payload, salt }, { signal }) {
      const { client, options } = await authOf(sessionId, Auth.method.verifyTokenAuthority.name, signal);
      const { Signed } = await client.verifyTokenAuthority(
        { Host: host, Payload: payload, Salt: salt },
        options,
      );
      return { signed: Signed };
    },
  };
}

interface AuthCall {
  readonly client: Client<typeof Auth>;
  readonly options: { readonly signal: AbortSignal; readonly timeoutMs: number };
}

function sessionToProto({ id, methods, references, attachedAt }: Session) {
  return {
    id,
    methods: methods.map((method) => method.toLowerCase()),
    references: [...references],
    attachedAt: timestampFromDate(attachedAt),
  };
}
