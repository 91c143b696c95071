import type { Digest } from "@oci-worker/oci/digest";
import type { Lease } from "../cache/lease.ts";
import type { TraceContext } from "../traces/trace-context.ts";
import type { VertexReport } from "./vertex-report.ts";

/** A file system that an operation has made: the name of a committed snapshot, or undefined for an empty one. */
export interface Ref {
  readonly snapshot: string | undefined;
}

/** What an operation is given to work with. */
export interface OperationContext {
  readonly report: VertexReport;
  /** Aborted when nobody wants the result any more. */
  readonly signal: AbortSignal;
  /** Holds what the operation makes and works with, until nobody wants its results any more. */
  readonly lease: Lease;
  /** The sessions of every build that wants the result now: any of them may provide credentials or files. */
  sessionIDs(): readonly string[];
  /** The cache key that is made of `text`, which operators may want to see. Every key comes from here. */
  keyOf(text: string): Digest;
  /** What the work is a part of: of several builds that want it, in the trace of the first. */
  trace(): TraceContext | undefined;
}

/** What one vertex does. */
export interface Operation {
  /**
   * What identifies the result, found without making it.
   *
   * @param inputKeys those of the vertex's inputs, each with the index of the output that is used.
   */
  cacheKey(inputKeys: readonly string[], context: OperationContext): Promise<Digest>;

  /**
   * Makes the result.
   *
   * @returns one for each output; undefined for an index that has none.
   */
  execute(inputs: readonly Ref[], context: OperationContext): Promise<readonly (Ref | undefined)[]>;
}
