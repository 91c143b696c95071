import type { Vertex } from "@oci-worker/llb/definition";
import type { Logger } from "pino";

/** Tells of something that has been decided about a vertex. The text is a constant, as of any line of the log. */
export type TellDecision = (decision: string, fields?: Readonly<Record<string, unknown>>) => void;

export interface DecisionLogOptions {
  readonly log: Logger;
  /** Whether the decisions about every vertex are wanted. */
  readonly ofAll: boolean;
  /**
   * Parts of names of vertices about which they are wanted. With `^` behind it, also about those that have such a one for
   * an input. (Upstream compares what it was told with itself, and so tells of all.)
   */
  readonly ofNames: readonly string[];
}

const nobodyAsks: TellDecision = () => undefined;

/**
 * Logs what the solver decides and why, for whoever looks for the reason that something was done, or done again: the keys
 * of the cache by which it goes, and what it found there.
 *
 * The lines have level debug, and are there whatever the level of the log: they were asked for by name.
 */
export function decisionLog({ log, ofAll, ofNames }: DecisionLogOptions): (vertex: Vertex) => TellDecision {
  if (!ofAll && ofNames.length === 0) {
    return () => nobodyAsks;
  }
  const decisions = log.child({}, { level: "debug" });
  const wanted = ofNames.map((part) => ({ part: part.replace(/\^$/, ""), isOfUsers: part.endsWith("^") }));
  const isWanted = ({ name, inputs }: Vertex) =>
    ofAll ||
    wanted.some(
      ({ part, isOfUsers }) =>
        name.includes(part) || (isOfUsers && inputs.some(({ vertex }) => vertex.name.includes(part))),
    );
  return (vertex) =>
    isWanted(vertex)
      ? (decision, fields) =>
          decisions.debug({ vertex: vertex.digest, step: vertex.name, ...fields }, decision)
      : nobodyAsks;
}
