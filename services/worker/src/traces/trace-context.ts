import { randomBytes } from "node:crypto";

/** A place in a trace, as whoever works for somebody is told it (W3C Trace Context). */
export interface TraceContext {
  /** 32 hex digits, not all of them 0. */
  readonly traceID: string;
  /** Of the span that the work is a part of: 16 hex digits, not all of them 0. */
  readonly spanID: string;
  /** Whether anybody wants to see the trace. */
  readonly isSampled: boolean;
  /** What the systems on the way have noted for themselves, as the header `tracestate` has it; empty for nothing. */
  readonly state: string;
}

/** Longer notes may be dropped (W3C Trace Context, 3.3.1.5), and go into the environment of every step. */
const maxStateLength = 512;

/**
 * Reads the headers `traceparent` and `tracestate` of a call.
 *
 * @returns undefined if they name no place: the receiver begins a trace then, and does not complain (2.3).
 */
export function parseTraceParent(parent: string, state = ""): TraceContext | undefined {
  const [, version, traceID = "", spanID = "", flags = "", rest = ""] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(parent) ?? [];
  // A later version may add fields at the end; ff is none.
  if (version === undefined || version === "ff" || (version === "00" && rest !== "")) {
    return undefined;
  }
  if (/^0+$/.test(traceID) || /^0+$/.test(spanID)) {
    return undefined;
  }
  const isText = /^[\x20-\x7e]*$/.test(state) && state.length <= maxStateLength;
  const isSampled = (Number.parseInt(flags, 16) & 1) === 1;
  return { traceID, spanID, isSampled, state: isText ? state : "" };
}

/** The header `traceparent`, or the variable TRACEPARENT, that names a place. */
export function formatTraceParent({ traceID, spanID, isSampled }: TraceContext): string {
  return `00-${traceID}-${spanID}-${isSampled ? "01" : "00"}`;
}

/** A span of its own within what `parent` names, or the first of a new trace. */
export function beginSpan(parent?: TraceContext): TraceContext {
  const spanID = randomBytes(8).toString("hex");
  return parent === undefined
    ? { traceID: randomBytes(16).toString("hex"), spanID, isSampled: true, state: "" }
    : { ...parent, spanID };
}
