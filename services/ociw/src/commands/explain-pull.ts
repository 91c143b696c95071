import { type CredentialSource, registryHost } from "@oci-worker/client/credentials";
import { ServiceError } from "@oci-worker/errdefs";
import { formatReference } from "@oci-worker/oci/reference";
import type { RunRequest } from "./run-flags.ts";

/** Words by which daemons and registries say that they do not know who asks. */
const refusal =
  /\b401\b|\b403 forbidden|unauthorized|authorization failed|failed to authorize|insufficient_scope|no basic auth credentials|pull access denied|cannot authorize at/i;

/** What a person can do about a failure, where that is known, in place of the failure itself. */
export async function explained(
  failure: unknown,
  { image, username }: Pick<RunRequest, "image" | "username">,
  credentials: CredentialSource,
): Promise<unknown> {
  if (!(failure instanceof ServiceError) || !refusal.test(failure.message)) {
    return failure;
  }
  const host = registryHost(image);
  const known = await credentials.find(host, undefined).catch(() => undefined);
  const why =
    known === undefined
      ? `${host} wants to know who asks, log in with "docker login" or pass --username and --password-stdin`
      : `${host} does not accept the credentials of ${username ?? "docker's configuration"}`;
  return new Error(`Cannot pull ${formatReference(image)}: ${why} (${failure.message})`, { cause: failure });
}
