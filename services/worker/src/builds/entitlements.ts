import { NetMode } from "@oci-worker/api/buildkit/llb";
import { PermissionDeniedError } from "@oci-worker/errdefs";
import type { Graph } from "@oci-worker/llb/definition";
import type { Entitlement } from "../config/config.ts";

/**
 * Checks that everything in `graph` that reaches beyond the sandbox has been asked for by the client and is allowed by
 * the operator.
 *
 * @throws {PermissionDeniedError} in the words of upstream.
 */
export function requireEntitled(
  graph: Graph,
  requested: readonly string[],
  allowed: ReadonlySet<Entitlement>,
): void {
  const needsHostNetwork = graph.vertices.some(
    ({ op: { op } }) => op.case === "exec" && op.value.network === NetMode.HOST,
  );
  if (needsHostNetwork && !(requested.includes("network.host") && allowed.has("network.host"))) {
    throw new PermissionDeniedError("network.host is not allowed");
  }
}
