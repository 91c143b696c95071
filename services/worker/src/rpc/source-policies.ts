import type { Policy } from "@oci-worker/api/buildkit/source-policy";
import { UnimplementedError } from "@oci-worker/errdefs";

/**
 * Refuses what says which sources a build may use. Nobody asks whether a worker has them before they are sent, and a build
 * that went on would use what its user has forbidden.
 *
 * @throws {UnimplementedError} if there is a rule in them.
 */
export function refuseSourcePolicies(policies: readonly Policy[]): void {
  if (policies.some(({ rules }) => rules.length > 0)) {
    throw unheededPolicy();
  }
}

export function unheededPolicy(): UnimplementedError {
  return new UnimplementedError(
    "Cannot build by a source policy: this worker heeds none, want a build without one",
  );
}
