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
  { image, push, username }: Pick<RunRequest, "image" | "username"> & Partial<Pick<RunRequest, "push">>,
  credentials: CredentialSource,
): Promise<unknown> {
  if (!(failure instanceof ServiceError) || !refusal.test(failure.message)) {
    return failure;
  }
  const isPush = push !== undefined && failure.message.includes("failed to push");
  const reference = isPush ? push : image;
  const host = registryHost(reference);
  const known = await credentials.find(host, undefined).catch(() => undefined);
  const why =
    known === undefined
      ? `${host} wants to know who asks, log in with "docker login" or pass --username and --password-stdin`
      : `${host} does not accept the credentials of ${(host === registryHost(image) && username) || "docker's configuration"}`;
  const what = `Cannot ${isPush ? "push" : "pull"} ${formatReference(reference)}`;
  return new Error(`${what}: ${why} (${failure.message})`, { cause: failure });
}
