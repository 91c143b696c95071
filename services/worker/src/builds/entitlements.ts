import { type ExecOp, NetMode, type Op, SecurityMode } from "@oci-worker/api/buildkit/llb";
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
  requireAllEntitled(
    graph.vertices.flatMap(({ op }) => neededBy(op)),
    requested,
    allowed,
  );
}

/** As {@link requireEntitled}, for what is known to reach that far. */
export function requireAllEntitled(
  needed: readonly Entitlement[],
  requested: readonly string[],
  allowed: ReadonlySet<Entitlement>,
): void {
  for (const entitlement of needed) {
    if (!(requested.includes(entitlement) && allowed.has(entitlement))) {
      throw new PermissionDeniedError(`${entitlement} is not allowed`);
    }
  }
}

function neededBy({ op }: Op): Entitlement[] {
  return op.case === "exec" ? entitlementsOf(op.value) : [];
}

/** What a process with these modes needs. */
export function entitlementsOf({ network, security }: Pick<ExecOp, "network" | "security">): Entitlement[] {
  return [
    ...(network === NetMode.HOST ? (["network.host"] as const) : []),
    // Whatever it is that later versions call by other numbers, it is not the sandbox.
    ...(security === SecurityMode.SANDBOX ? [] : (["security.insecure"] as const)),
  ];
}
