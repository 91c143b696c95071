import type { CredentialSource } from "@oci-worker/client/credentials";
import { fetchToken } from "@oci-worker/client/fetch-token";
import type { Credentials } from "@oci-worker/credentials/credentials";
import type { Authorization, AuthorizationQuery, Authorizer } from "@oci-worker/registry/authorizer";
import { type BearerDemand, type Demand, demandOf } from "@oci-worker/registry/demand";
import type { RegistryHost } from "@oci-worker/registry/host";
import { mergeScopes, repositoryScope } from "@oci-worker/registry/scopes";

/** What asks, to a token server. */
const clientID = "ociw";

/** A new token is got when this share of the old one's life has passed. */
const renewalShare = 0.9;

/** Opens one repository with the credentials of this user: to the registry itself, or for tokens of its token server. */
export class CredentialAuthorizer implements Authorizer {
  readonly #credentials: CredentialSource;
  readonly #host: RegistryHost;
  readonly #scope: string;
  /** What the host wanted to see last, so that it need not refuse us again when a token has expired. */
  #demand: Demand | undefined;

  constructor(
    credentials: CredentialSource,
    host: RegistryHost,
    { repository, access }: { readonly repository: string; readonly access: "pull" | "push" },
  ) {
    this.#credentials = credentials;
    this.#host = host;
    this.#scope = repositoryScope(repository, access);
  }

  async authorize(
    { challenges, extraScopes = [] }: AuthorizationQuery,
    signal: AbortSignal | undefined,
  ): Promise<Authorization> {
    if (challenges.length > 0) {
      this.#demand = demandOf(challenges, this.#host);
    }
    const demand = this.#demand;
    if (demand === undefined) {
      return {};
    }
    const credentials = await this.#credentials.find(this.#host.host, signal);
    return demand.scheme === "basic"
      ? basicOf(credentials)
      : await this.#bearerOf(credentials, demand, extraScopes, signal);
  }

  async #bearerOf(
    credentials: Credentials | undefined,
    demand: BearerDemand,
    extraScopes: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<Authorization> {
    if (credentials?.kind === "registry-token") {
      return { value: `Bearer ${credentials.token.reveal()}` };
    }
    const { realm, service } = demand;
    const scopes = mergeScopes([this.#scope], demand.scopes, extraScopes);
    const request = { realm: realm.href, service, scopes, clientID };
    const { token, lifetimeSeconds } = await fetchToken(request, credentials, signal);
    return {
      value: `Bearer ${token.reveal()}`,
      expiresAtMs: Date.now() + lifetimeSeconds * 1000 * renewalShare,
    };
  }
}

function basicOf(credentials: Credentials | undefined): Authorization {
  if (credentials?.kind !== "password") {
    return {};
  }
  const { username, password } = credentials;
  return { value: `Basic ${Buffer.from(`${username}:${password.reveal()}`).toString("base64")}` };
}
