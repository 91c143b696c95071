import { fetchToken, type TokenFetcher } from "../token/fetch-token.ts";
import { basicValue, type Credentials, credentialsKey, type Identity } from "./identity.ts";

/** Someone who shows `credentials`, wherever those were found. */
export function credentialsIdentity(credentials: Credentials, fetcher: TokenFetcher): Identity {
  const basic = basicValue(credentials);
  return {
    key: credentialsKey(credentials),
    ...(basic && { basic }),
    fetchToken: (request, signal) => fetchToken(fetcher, request, credentials, signal),
  };
}
