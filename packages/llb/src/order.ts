import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";

/** A node of a graph, as far as its order is concerned. */
export interface Node {
  /** Keys of the nodes that come before it. A key may be there twice. */
  readonly inputs: readonly string[];
}

/** A node on the way from the root to where the walk is, and which of its inputs comes next. */
interface Step {
  readonly key: string;
  readonly node: Node;
  next: number;
}

/**
 * The keys of all nodes that `root` needs, each after its inputs, `root` last. What `root` does not need is left out.
 *
 * Inputs are visited in their order, so one graph has one order. Nothing is recursive: the depth of foreign input must
 * not be the depth of our stack.
 *
 * @param maxDepth most nodes on one way from `root` to its farthest input.
 * @throws {InvalidArgumentError} if an input is missing or a node needs itself.
 * @throws {ResourceExhaustedError} if the graph is deeper than `maxDepth`.
 */
export function topologicalOrder(
  nodes: ReadonlyMap<string, Node>,
  root: string,
  maxDepth: number,
): readonly string[] {
  const depths = new Map<string, number>();
  const open = new Set<string>();
  const path: Step[] = [];

  const enter = (key: string): void => {
    const node = nodes.get(key);
    if (node === undefined) {
      throw new InvalidArgumentError(`invalid missing input digest ${key}`);
    }
    if (open.has(key)) {
      throw new InvalidArgumentError(`invalid cycle: ${key} needs itself`);
    }
    open.add(key);
    path.push({ key, node, next: 0 });
    requireDepth(path.length, maxDepth);
  };

  enter(root);
  for (let step = path.at(-1); step !== undefined; step = path.at(-1)) {
    const input = step.node.inputs[step.next];
    if (input !== undefined) {
      step.next += 1;
      if (!depths.has(input)) {
        enter(input);
      }
      continue;
    }
    const below = step.node.inputs.map((key) => depths.get(key) ?? 0);
    // A node that is reached again over a shorter way was not entered again, so its depth is added up from below.
    const depth = 1 + below.reduce((deepest, each) => Math.max(deepest, each), 0);
    requireDepth(depth, maxDepth);
    depths.set(step.key, depth);
    open.delete(step.key);
    path.pop();
  }
  return [...depths.keys()];
}

function requireDepth(depth: number, maxDepth: number): void {
  if (depth > maxDepth) {
    throw new ResourceExhaustedError(`the graph is deeper than ${maxDepth} operations`);
  }
}
