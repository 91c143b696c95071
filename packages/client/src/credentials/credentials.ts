import { type Credentials, dockerHubHost } from "@oci-worker/credentials/credentials";
import type { Reference } from "@oci-worker/oci/reference";
import { dockerHub } from "@oci-worker/oci/reference";

/** Whoever knows credentials. */
export interface CredentialSource {
  /**
   * The credentials for a registry, or undefined if this source knows none.
   *
   * @param host name of the host that serves the registry, with `:port` if it has one. Docker Hub's is
   *   {@link dockerHubHost}.
   */
  find(host: string, signal: AbortSignal | undefined): Promise<Credentials | undefined>;
}

/** The host that serves `reference`: what BuildKit asks credentials for. */
export function registryHost({ domain }: Reference): string {
  return domain === dockerHub ? dockerHubHost : domain;
}

/** A source that knows `credentials` for `host` and nothing else, so that no other registry is shown them. */
export function credentialsFor(host: string, credentials: Credentials): CredentialSource {
  return { find: (asked) => Promise.resolve(asked === host ? credentials : undefined) };
}

/** A source that asks `sources` one after the other until one knows. */
export function firstOf(sources: readonly CredentialSource[]): CredentialSource {
  return {
    async find(host, signal) {
      for (const source of sources) {
        const found = await source.find(host, signal);
        if (found !== undefined) {
          return found;
        }
      }
      return undefined;
    },
  };
}

/** A source that knows nothing: registries are asked anonymously. */
export const anonymous: CredentialSource = firstOf([]);
