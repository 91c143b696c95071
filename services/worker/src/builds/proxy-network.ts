import { type ExecOp, NetMode } from "@oci-worker/api/buildkit/llb";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Graph, Vertex } from "@oci-worker/llb/definition";

/** Sets such a vertex apart from the same one of builds without a proxy, which are not to make it for this one. */
const variantOfProxied = "proxied";

/**
 * The graph with every step that has a network reaching it by a proxy of the worker.
 *
 * Cache keys stay the same, as with upstream: what has been made without a proxy is used.
 *
 * @throws {InvalidArgumentError} in the words of upstream, for a network that no proxy can reach.
 */
export function throughProxy(graph: Graph): Graph {
  const set = new Set<string>();
  const vertices = graph.vertices.map((vertex) => {
    const proxied = isProxied(vertex);
    if (!proxied && !vertex.inputs.some((input) => set.has(input.vertex.digest))) {
      return vertex;
    }
    set.add(vertex.digest);
    const variant = [vertex.variant ?? [], variantOfProxied].flat().join("-");
    return { ...vertex, variant, proxied };
  });
  return { ...graph, vertices };
}

function isProxied({ op: { op } }: Vertex): boolean {
  return op.case === "exec" && reachesOut(op.value);
}

function reachesOut({ network }: ExecOp): boolean {
  switch (network) {
    case NetMode.UNSET:
    case NetMode.HOST:
      return true;
    case NetMode.NONE:
      return false;
    default:
      throw new InvalidArgumentError(`network mode ${network} is not allowed when proxy network is enabled`);
  }
}
