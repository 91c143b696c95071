import { parseArgs } from "node:util";
import { soakLazyReads } from "./lazy-reads.ts";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "5" } } });
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes <= 24 * 60)) {
  throw new Error(`Cannot soak for ${values.minutes} minutes: want a number up to 1440`);
}
process.stdout.write(
  `Reading a lazy layer for ${minutes} minutes while tokens expire and sessions come and go.\n`,
);
const report = await soakLazyReads({
  durationMs: minutes * 60_000,
  mishaps: ["well", "fails", "well", "limits", "well", "refuses", "well", "hangs", "well", "hangs up"],
});
const { failures, ...counts } = report;
process.stdout.write(`${JSON.stringify(counts)}\n`);
for (const failure of failures.slice(0, 20)) {
  process.stderr.write(`${failure}\n`);
}
process.stdout.write(`${failures.length} of ${report.reads} reads have failed\n`);
process.exitCode = failures.length === 0 && report.reads > 0 ? 0 : 1;
