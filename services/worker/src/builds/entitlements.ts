import { type ExecOp, NetMode, type Op, SecurityMode } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError, PermissionDeniedError } from "@oci-worker/errdefs";
import type { Graph } from "@oci-worker/llb/definition";
import type { Entitlement } from "../config/config.ts";

/** What a client may let its build do beyond the sandbox; of devices it says more, which is for others to read. */
const known: ReadonlySet<string> = new Set<Entitlement | "device">([
  "network.host",
  "security.insecure",
  "device",
]);

/**
 * Checks that the operator allows what a client asks for, whether its build comes to need it or not.
 *
 * @throws {InvalidArgumentError} for what is no entitlement, in the words of upstream, as all of this.
 * @throws {PermissionDeniedError} for one that is not allowed.
 */
export function requireGrantable(requested: readonly string[], allowed: ReadonlySet<string>): void {
  for (const text of requested) {
    const isDevice = text.startsWith("device=");
    if (!isDevice && !known.has(text)) {
      throw new InvalidArgumentError(
        `unknown entitlement ${JSON.stringify(text)}, want one of ${[...known].join(", ")}`,
      );
    }
    if (!isDevice && text !== "device" && !allowed.has(text)) {
      throw new PermissionDeniedError(
        `granting entitlement ${text} is not allowed by build daemon configuration`,
      );
    }
  }
}

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
