import { readFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";

/** One line of a comparison: the same figure of us and of the peer, from the same run. */
export interface Comparison {
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly peers: number;
  /** What the design wants ours to be, as a multiple of the peer's; undefined if it wants nothing. */
  readonly want: { readonly atLeast: number } | { readonly atMost: number } | undefined;
}

/** What a workload has measured. */
export interface Report {
  readonly title: string;
  /** What is compared with what, and how. */
  readonly method: string;
  readonly peer: string;
  /** Why a line is not as it is wanted, and what else the figures do not say. */
  readonly remarks?: readonly string[];
  readonly comparisons: readonly Comparison[];
}

/** A report as a section of docs/benchmarks.md. */
export function markdownOf({ title, method, peer, remarks = [], comparisons }: Report): string {
  const rows = comparisons.map(({ what, unit, ours, peers, want }) => {
    const cells = [
      what,
      `${rounded(ours)} ${unit}`,
      `${rounded(peers)} ${unit}`,
      `${(ours / peers).toFixed(2)}x`,
    ];
    return `| ${[...cells, wanted(want)].join(" | ")} |`;
  });
  return [
    `## ${title}`,
    "",
    method,
    "",
    `| what | ours | ${peer} | ratio | wanted |`,
    "|---|--:|--:|--:|--:|",
    ...rows,
    "",
    ...(remarks.length === 0 ? [] : [...remarks.map((remark) => `- ${remark}`), ""]),
  ].join("\n");
}

/** The machine and the day, for the head of the page. */
export async function describeMachine(): Promise<string> {
  const [cpu] = cpus();
  const kernel = (await readFile("/proc/sys/kernel/osrelease", "utf8")).trim();
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  const day = new Date().toISOString().slice(0, 10);
  return `${day}, ${cpu?.model ?? "an unknown processor"}, ${cpus().length} cores, ${memoryGiB} GiB, Linux ${kernel}, Node ${process.versions.node}`;
}

function rounded(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3);
}

function wanted(want: Comparison["want"]): string {
  if (want === undefined) {
    return "";
  }
  return "atLeast" in want ? `≥ ${want.atLeast}x` : `≤ ${want.atMost}x`;
}
