import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { loadDefinition } from "@oci-worker/llb/definition";
import { parseReference } from "@oci-worker/oci/reference";
import { pino } from "pino";
import { type DecisionLogOptions, decisionLog } from "./decision-log.ts";

/** The names of the vertices of a chain, base, first and last, of which decisions are logged. */
function toldOf(options: Pick<DecisionLogOptions, "ofAll" | "ofNames">): string[] {
  const lines: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const tellOf = decisionLog({ log, ...options });
  const base = image(parseReference("base"), { name: "base" });
  const first = run({ root: base, args: ["first"], name: "run first" }).root;
  const last = run({ root: first, args: ["last"], name: "run last" }).root;
  for (const vertex of loadDefinition(definitionOf(last)).vertices) {
    tellOf(vertex)("decided", { why: "because" });
  }
  return lines.map((line) => {
    const { level, msg, step, why } = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual([level, msg, why], [20, "decided", "because"]);
    return String(step);
  });
}

describe("decisions are logged whatever the level,", () => {
  const cases: [what: string, options: Pick<DecisionLogOptions, "ofAll" | "ofNames">, want: string[]][] = [
    ["of none, if nobody asks", { ofAll: false, ofNames: [] }, []],
    ["of all", { ofAll: true, ofNames: [] }, ["base", "run first", "run last"]],
    ["of those whose names have a part", { ofAll: false, ofNames: ["last", "bas"] }, ["base", "run last"]],
    ["of those that need such a one", { ofAll: false, ofNames: ["base^"] }, ["base", "run first"]],
    ["of all, whatever is said of names", { ofAll: true, ofNames: ["x"] }, ["base", "run first", "run last"]],
    ["of none that there is not", { ofAll: false, ofNames: ["x", "y^"] }, []],
  ];
  for (const [what, options, want] of cases) {
    test(what, () => assert.deepEqual(toldOf(options), want));
  }
});
