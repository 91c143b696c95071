import { NetMode, type Op, SecurityMode } from "@oci-worker/api/buildkit/llb";
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
  const granted = (entitlement: Entitlement) => requested.includes(entitlement) && allowed.has(entitlement);
  for (const { op } of graph.vertices) {
    for (const entitlement of neededBy(op)) {
      if (!granted(entitlement)) {
        throw new PermissionDeniedError(`${entitlement} is not allowed`);
      }
    }
  }
}

function neededBy({ op }: Op): Entitlement[] {
  if (op.case !== "exec") {
    return [];
  }
  return [
    ...(op.value.network === NetMode.HOST ? (["network.host"] as const) : []),
    // Whatever it is that later versions call by other numbers, it is not the sandbox.
    ...(op.value.security === SecurityMode.SANDBOX ? [] : (["security.insecure"] as const)),
  ];
}
