import { UsageError } from "../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { formatBytes } from "../progress/units.ts";
import { describeRecord, recordFilterFlag, recordTable, totalBytes } from "./cache-records.ts";
import type { Command } from "./command.ts";

const flags = {
  filter: recordFilterFlag,
  verbose: { short: "v", help: "show what each was made for, and ids in full" },
  ...formatFlags,
} as const;

/** `ociw du` */
export const du: Command = {
  synopsis: "du [flags]",
  summary: "Shows what the daemon's cache takes up on disk.",
  details: ["A * behind an id tells that it still changes, as cache mounts do."],
  flags,

  async run({ connect, flags: given, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot show records by name: want --filter id==NAME");
    }
    await using client = await connect();
    const records = await client.diskUsage({ filters: given["filter"] ?? [] });
    if (wantsJSON(given)) {
      terminal.stdout.write(json(records.map(describeRecord)));
      return 0;
    }
    const reclaimable = records.filter(({ inUse }) => !inUse);
    terminal.stdout.write(
      `${recordTable(records, given["verbose"] !== undefined, Date.now())}\nReclaimable: ${formatBytes(
        totalBytes(reclaimable),
      )}\nTotal:       ${formatBytes(totalBytes(records))}\n`,
    );
    return 0;
  },
};
