import type { Secret } from "./secret.ts";

/** What proves to a registry who asks. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: Secret }
  /** What a registry's token server gives tokens for, in place of a password. */
  | { readonly kind: "identity-token"; readonly token: Secret }
  /** What the registry itself takes, without any token server. */
  | { readonly kind: "registry-token"; readonly token: Secret };

/** The host that serves the images of `docker.io`. */
export const dockerHubHost = "registry-1.docker.io";

/** What people have called Docker Hub in configurations. */
const dockerHubHosts: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", dockerHubHost]);

/** Whether `host` is one of Docker Hub's. */
export function isDockerHub(host: string): boolean {
  return dockerHubHosts.has(host);
}
