import type { WorkerInfo } from "@oci-worker/client";
import { formatPlatform } from "@oci-worker/oci/platform";
import { UsageError } from "../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { table } from "../output/table.ts";
import type { Command } from "./command.ts";

/** `ociw workers` */
export const workers: Command = {
  synopsis: "workers [flags]",
  summary: "Lists the workers of the daemon.",
  details: [],
  flags: formatFlags,

  async run({ connect, flags, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot list workers by name: want no more words after workers");
    }
    await using client = await connect();
    const list = await client.workers();
    terminal.stdout.write(wantsJSON(flags) ? asJson(list) : asTable(list));
    return 0;
  },
};

function asTable(list: readonly WorkerInfo[]): string {
  const rows = list.map(({ id, platforms, labels, devices }) => [
    [id],
    platforms.map(formatPlatform),
    sorted(labels).map(([name, value]) => `${name}=${value}`),
    devices.map(({ name, isAutoAllowed }) => `${name}${isAutoAllowed ? " (allowed to all)" : ""}`),
  ]);
  // Few machines have devices that steps can be given.
  const headings = ["ID", "PLATFORMS", "LABELS", "DEVICES"];
  return table(list.some(({ devices }) => devices.length > 0) ? headings : headings.slice(0, -1), rows);
}

function asJson(list: readonly WorkerInfo[]): string {
  return json(
    list.map(({ id, platforms, labels, devices }) => ({
      id,
      platforms: platforms.map(formatPlatform),
      labels: Object.fromEntries(sorted(labels)),
      devices: devices.map(({ name, isAutoAllowed, isOnDemand, annotations }) => ({
        name,
        autoAllowed: isAutoAllowed,
        onDemand: isOnDemand,
        annotations: Object.fromEntries(sorted(annotations)),
      })),
    })),
  );
}

function sorted(texts: Readonly<Record<string, string>>): [name: string, value: string][] {
  return Object.entries(texts).sort(([a], [b]) => (a < b ? -1 : 1));
}
