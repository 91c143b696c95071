import { fetchToken, type TokenFetcher } from "../token/fetch-token.ts";
import type { Keychain } from "./identity.ts";

/** Nobody in particular. Registries that hand out tokens give one for what is public. */
export function anonymousKeychain(fetcher: TokenFetcher): Keychain {
  return {
    name: "anonymous",
    isClients: true,
    async *identities({ scheme }) {
      if (scheme === "bearer") {
        yield {
          key: "anonymous",
          fetchToken: (request, signal) => fetchToken(fetcher, request, undefined, signal),
        };
      }
    },
  };
}
