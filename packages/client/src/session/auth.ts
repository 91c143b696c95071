import { Auth } from "@oci-worker/api/session/auth";
import type { Credentials } from "@oci-worker/credentials/credentials";
import { UnavailableError } from "@oci-worker/errdefs";
import { type Implementation, implement } from "@oci-worker/grpc/router";
import type { CredentialSource } from "../credentials/credentials.ts";
import { fetchToken } from "./fetch-token.ts";
import { authorityKey, publicKeyOf, signedMessage } from "./token-authority.ts";
import type { TokenSeeds } from "./token-seeds.ts";

/** What asks, to a token server, unless the daemon says otherwise. */
const defaultClientID = "buildkit-client";

/** Lifetime that is told for a token that has none, in seconds (BuildKit, authprovider.go). */
const staticTokenLifetimeSeconds = 60;

/**
 * Serves moby.filesync.v1.Auth: lends a build the credentials of this user.
 *
 * With a token authority the daemon never sees a password: tokens are fetched here.
 *
 * @param fetchesTokens false: there is no authority, and the daemon asks for the password.
 */
export function authService(
  source: CredentialSource,
  seeds: TokenSeeds,
  fetchesTokens: boolean,
): Implementation {
  const requireAuthority = () => {
    if (!fetchesTokens) {
      // In upstream's words; a daemon goes on with the password.
      throw new UnavailableError("client side tokens disabled");
    }
  };
  return implement(Auth, {
    async credentials({ Host }, { signal }) {
      return basicForm(await source.find(Host, signal));
    },

    async fetchToken({ ClientID, Host, Realm, Service, Scopes }, { signal }) {
      const credentials = await source.find(Host, signal);
      if (credentials?.kind === "registry-token") {
        return { Token: credentials.token.reveal(), ExpiresIn: BigInt(staticTokenLifetimeSeconds) };
      }
      const request = {
        realm: Realm,
        service: Service,
        scopes: Scopes,
        clientID: ClientID || defaultClientID,
      };
      const { token, lifetimeSeconds, issuedAtSeconds } = await fetchToken(request, credentials, signal);
      return {
        Token: token.reveal(),
        ExpiresIn: BigInt(lifetimeSeconds),
        IssuedAt: BigInt(issuedAtSeconds ?? 0),
      };
    },

    async getTokenAuthority({ Host, Salt }, { signal }) {
      requireAuthority();
      const key = await authorityKey(Host, Salt, await source.find(Host, signal), seeds);
      return { PublicKey: publicKeyOf(key) };
    },

    async verifyTokenAuthority({ Host, Payload, Salt }, { signal }) {
      requireAuthority();
      const key = await authorityKey(Host, Salt, await source.find(Host, signal), seeds);
      return { Signed: signedMessage(key, Payload) };
    },
  });
}

/** How the protocol tells credentials: an identity token has no user name, and nothing at all is anonymous. */
function basicForm(credentials: Credentials | undefined): { Username: string; Secret: string } {
  switch (credentials?.kind) {
    case "password":
      return { Username: credentials.username, Secret: credentials.password.reveal() };
    case "identity-token":
      return { Username: "", Secret: credentials.token.reveal() };
    case "registry-token":
    case undefined:
      return { Username: "", Secret: "" };
  }
}
