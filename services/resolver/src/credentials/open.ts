import type { Config, KeychainName } from "../config.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { anonymousKeychain } from "./anonymous.ts";
import { DockerConfigKeychain } from "./docker-config.ts";
import type { Keychain } from "./identity.ts";
import { SessionKeychain } from "./session.ts";
import type { SessionAuth } from "./session-auth.ts";

/** The keychains of `config` in their order, without that of sessions if there are none, and nobody at the end. */
export function openKeychains(
  { keychains, dockerConfig }: Pick<Config, "keychains" | "dockerConfig">,
  sessions: SessionAuth | undefined,
  fetcher: TokenFetcher,
): Keychain[] {
  const open = (name: KeychainName): Keychain[] => {
    switch (name) {
      case "session":
        return sessions === undefined ? [] : [new SessionKeychain(sessions, fetcher)];
      case "docker-config":
        return [new DockerConfigKeychain(dockerConfig, fetcher)];
    }
  };
  return [...keychains.flatMap(open), anonymousKeychain(fetcher)];
}
