import type { Logger } from "pino";
import type { Config, KeychainName } from "../config.ts";
import type { TokenFetcher } from "../token/fetch-token.ts";
import { anonymousKeychain } from "./anonymous.ts";
import { DockerConfigKeychain } from "./docker-config.ts";
import type { Keychain } from "./identity.ts";
import { KubernetesKeychain } from "./kubernetes.ts";
import { SessionKeychain } from "./session.ts";
import type { SessionAuth } from "./session-auth.ts";
import { StaticKeychain } from "./static.ts";

/** The keychains of `config` in their order, without that of sessions if there are none, and nobody at the end. */
export function openKeychains(
  config: Pick<Config, "keychains" | "dockerConfig" | "pullSecretsDir" | "static">,
  sessions: SessionAuth | undefined,
  fetcher: TokenFetcher,
  log: Logger,
): Keychain[] {
  const open = (name: KeychainName): Keychain[] => {
    switch (name) {
      case "session":
        return sessions === undefined ? [] : [new SessionKeychain(sessions, fetcher)];
      case "docker-config":
        return [new DockerConfigKeychain(config.dockerConfig, fetcher)];
      case "kubernetes":
        return [new KubernetesKeychain(config.pullSecretsDir, fetcher)];
      case "static":
        return [new StaticKeychain(config.static, fetcher, log)];
    }
  };
  return [...config.keychains.flatMap(open), anonymousKeychain(fetcher)];
}
