import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { describeMachine, markdownOf, type Report } from "./report.ts";
import { adapter } from "./workload/adapter.ts";
import { cache } from "./workload/cache.ts";
import { lazy } from "./workload/lazy.ts";
import { native } from "./workload/native.ts";
import { resolver } from "./workload/resolver.ts";
import { snapshots } from "./workload/snapshots.ts";
import { start } from "./workload/start.ts";
import { steps } from "./workload/steps.ts";
import { unpack } from "./workload/unpack.ts";

const page = join(import.meta.dirname, "../docs/benchmarks.md");

const workloads: Readonly<Record<string, () => Promise<Report>>> = {
  adapter,
  snapshots,
  native,
  start,
  unpack,
  lazy,
  resolver,
  steps,
  cache,
};

const { values, positionals } = parseArgs({
  options: { write: { type: "boolean", default: false } },
  allowPositionals: true,
});

const names = positionals.length > 0 ? positionals : Object.keys(workloads);
const sections: string[] = [];
for (const name of names) {
  const workload = workloads[name];
  if (workload === undefined) {
    throw new Error(`There is no workload ${name}, want one of ${Object.keys(workloads).join(", ")}`);
  }
  const section = markdownOf(await workload());
  process.stdout.write(`${section}\n`);
  sections.push(section);
}
if (values.write) {
  const head = `# Benchmarks\n\nPrinted by \`npm run bench -- --write\`. Ours and the peer's figures are from the same run, one after the other;\nratios carry over to other machines better than figures do.\n\n${await describeMachine()}\n`;
  await writeFile(page, [head, ...sections].join("\n"));
}
