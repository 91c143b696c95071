import { parseReference, type Reference } from "@oci-worker/oci/reference";
import { basicAuthorizer } from "@oci-worker/registry/authorizer";
import { RegistryClient } from "@oci-worker/registry/client";
import { upstreamHost } from "@oci-worker/registry/host";
import { pushImage, type SmallImage } from "./image.ts";
import type { RegistryPeer } from "./registry.ts";

/** Who may use the registries of tests that ask for a password. */
export const user = { username: "alice", password: "s3cret-c4n4ry" } as const;

/** Pushes `image` to `registry` as {@link user}, and gives the name by which it can be pulled. */
export async function pushTo(
  registry: RegistryPeer,
  image: SmallImage,
  repository = "test/image",
  tag = "1",
): Promise<Reference> {
  using client = new RegistryClient();
  const target = client.repository({
    hosts: [upstreamHost(registry.host)],
    repository,
    authorizer: basicAuthorizer(registry.host, user.username, user.password),
  });
  await pushImage(target, image, tag);
  return parseReference(`${registry.host}/${repository}:${tag}`);
}
