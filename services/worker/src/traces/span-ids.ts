import { createHash } from "node:crypto";

/**
 * The span of what a vertex began to do at a moment. It is the same in the traces of all builds that want the vertex, and
 * found again by whoever knows both: a step is told it before it runs, the build's trace has it afterwards.
 */
export function vertexSpanID(digest: string, startedAt: Date): string {
  return spanID([digest, startedAt.getTime()]);
}

/** The span of a line of work inside a vertex. */
export function rowSpanID(vertex: string, id: string, startedAt: Date): string {
  return spanID([vertex, id, startedAt.getTime()]);
}

function spanID(of: readonly (string | number)[]): string {
  return createHash("sha256").update(JSON.stringify(of)).digest("hex").slice(0, 16);
}
