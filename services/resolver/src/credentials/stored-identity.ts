import type { Credentials } from "@oci-worker/credentials/credentials";
import type { Secret } from "@oci-worker/credentials/secret";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { tokenOf } from "../token/token-answer.ts";
import { credentialsIdentity } from "./credentials-identity.ts";
import { credentialsKey, type Identity } from "./identity.ts";

/** Someone who shows what the operator has stored. */
export function storedIdentity(stored: Credentials, fetcher: TokenFetcher): Identity {
  switch (stored.kind) {
    case "password":
      return credentialsIdentity({ username: stored.username, secret: stored.password }, fetcher);
    case "identity-token":
      return credentialsIdentity({ username: "", secret: stored.token }, fetcher);
    case "registry-token":
      return registryTokenIdentity(stored.token);
  }
}

/** Someone who has a token for the registry already, and nobody knows for how long. */
function registryTokenIdentity(token: Secret): Identity {
  return {
    key: credentialsKey({ username: "registrytoken", secret: token }),
    fetchToken: () => Promise.resolve(tokenOf(token.reveal(), { seconds: 0 }, Date.now())),
  };
}
