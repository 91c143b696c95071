import type { CacheRecord, PruneOptions } from "@oci-worker/client/cache";
import type { ParsedArgs } from "../args/flags.ts";
import { parseDuration, parseSize } from "../args/quantities.ts";
import { UsageError } from "../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { formatBytes } from "../progress/units.ts";
import { describeRecord, recordFilterFlag, recordTable, totalBytes } from "./cache-records.ts";
import type { Command } from "./command.ts";
import { listenForInterruption } from "./interruption.ts";

const size = (help: string) => ({ value: "SIZE", help }) as const;

const flags = {
  filter: recordFilterFlag,
  all: { short: "a", help: "also what is internal or belongs to a frontend" },
  "keep-duration": { value: "DURATION", help: "keep what was used within that time, such as 24h" },
  "keep-storage": size("keep so much; of a plain number in MB, as buildctl has it"),
  "max-used-space": size("remove only what is beyond it; daemons from v0.17 on"),
  "min-free-space": size("remove until so much of the disk is free; daemons from v0.17 on"),
  verbose: { short: "v", help: "show what each was made for, and ids in full" },
  ...formatFlags,
} as const;

/** `ociw prune` */
export const prune: Command = {
  synopsis: "prune [flags]",
  summary: "Removes from the daemon's cache what nothing uses.",
  details: ["Without flags that is everything but what is internal. What a build uses always stays."],
  flags,

  async run({ connect, flags: given, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot remove records by name: want --filter id==NAME");
    }
    const options = optionsOf(given);
    using interruption = listenForInterruption(terminal);
    await using client = await connect();
    const removed: CacheRecord[] = [];
    try {
      for await (const record of client.prune({ ...options, signal: interruption.signal })) {
        removed.push(record);
      }
    } catch (error) {
      if (interruption.exitCode() === undefined) {
        throw error;
      }
    }
    const text = wantsJSON(given)
      ? json(removed.map(describeRecord))
      : `${removed.length === 0 ? "" : `${recordTable(removed, given["verbose"] !== undefined, Date.now())}\n`}Total: ${formatBytes(totalBytes(removed))}\n`;
    terminal.stdout.write(text);
    return interruption.exitCode() ?? 0;
  },
};

function optionsOf(given: ParsedArgs["flags"]): PruneOptions {
  const sizeOf = (flag: string, plainUnitBytes: number) => {
    const text = given[flag]?.[0];
    return text === undefined ? 0 : parseSize(flag, text, plainUnitBytes);
  };
  const duration = given["keep-duration"]?.[0];
  return {
    filters: given["filter"] ?? [],
    all: given["all"] !== undefined,
    keepDurationMs: duration === undefined ? 0 : parseDuration("keep-duration", duration),
    reservedBytes: sizeOf("keep-storage", 1_000_000),
    maxUsedBytes: sizeOf("max-used-space", 1_000_000),
    minFreeBytes: sizeOf("min-free-space", 1_000_000),
  };
}
