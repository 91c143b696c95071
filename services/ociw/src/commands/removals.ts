import type { RemovedRecord } from "@oci-worker/client/removal";
import { UsageError } from "../args/usage-error.ts";
import { formatAge } from "../output/age.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { printable, shortName } from "../output/printable.ts";
import { table } from "../output/table.ts";
import { formatBytes } from "../progress/units.ts";
import type { Command } from "./command.ts";

const flags = {
  last: { short: "n", value: "COUNT", help: "at most so many, the last (default 100)" },
  ...formatFlags,
} as const;

/** `ociw removals` */
export const removals: Command = {
  synopsis: "removals [flags]",
  summary: "Tells what was removed from the cache of an oci-worker, by which rule and why.",
  details: [
    "Rules are counted from 1 in the order in which the daemon tells them; without one a client has asked for it.",
  ],
  flags,

  async run({ connect, flags: given, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell of a record by its name: want no more words after removals");
    }
    const last = given["last"]?.[0] ?? "0";
    if (!/^\d{1,9}$/.test(last)) {
      throw new UsageError(`Cannot use --last ${JSON.stringify(last)}: want a number`);
    }
    await using client = await connect();
    const removed = await client.removals(Number(last));
    terminal.stdout.write(wantsJSON(given) ? json(removed) : asTable(removed, Date.now()));
    return 0;
  },
};

function asTable(removed: readonly RemovedRecord[], nowMs: number): string {
  const rows = removed.map(({ id, sizeBytes, removedAt, rule, why, description }) => [
    [`${formatAge(BigInt(removedAt.getTime()) * 1_000_000n, nowMs)} ago`],
    [shortName(id)],
    [formatBytes(sizeBytes)],
    [rule === undefined ? "prune" : `rule ${rule}`],
    [printable(description), printable(why)],
  ]);
  return table(["REMOVED", "ID", "SIZE", "BY", "WHAT AND WHY"], rows);
}
