import type { Finding } from "./finding.ts";

/** What is told of a root that was checked, or mended. */
export interface Report {
  readonly root: string;
  /** How many snapshots there are now. */
  readonly snapshots: number;
  /** What was found when it began. */
  readonly findings: readonly Finding[];
  /** Whether it was to mend what it found. */
  readonly repairs: boolean;
  /** What is still wrong after that; the same as `findings` if it was not to mend anything. */
  readonly remaining: readonly Finding[];
}

/** Whether nothing is wrong that the next start would not put in order. */
export function isClean({ remaining }: Report): boolean {
  return remaining.every(({ severity }) => severity === "leftover");
}

/** The report for a person: what is wrong, one line each, and a line at the end that says how it stands. */
export function reportText(report: Report): string {
  const { root, snapshots, findings, repairs } = report;
  const lines = findings.map(
    ({ severity, kind, about, text, remedy }) =>
      `${severity} ${kind} ${about}: ${text} (${repairs ? "done" : "--repair would"}: ${remedy})`,
  );
  const count = (severity: Finding["severity"], of: readonly Finding[]) =>
    of.filter((each) => each.severity === severity).length;
  const problems = count("problem", findings);
  const found = `problems: ${problems}, leftovers: ${count("leftover", findings)}, snapshots: ${snapshots}`;
  const state =
    repairs && problems > 0
      ? isClean(report)
        ? "mended"
        : "not mended"
      : isClean(report)
        ? "clean"
        : "damaged";
  return `${[...lines, `${root}: ${state}; ${found}`].join("\n")}\n`;
}

/** The report for a program: one JSON object. */
export function reportJSON(report: Report): string {
  return `${JSON.stringify({ clean: isClean(report), ...report })}\n`;
}
