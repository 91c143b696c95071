import type { Info, Usage } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { formatAge } from "../../output/age.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable, shortName } from "../../output/printable.ts";
import { table } from "../../output/table.ts";
import { formatBytes } from "../../progress/units.ts";
import type { Command } from "../command.ts";
import { byAge, measured } from "./description.ts";
import { filterFlag } from "./filter.ts";
import { withSnapshotter } from "./target.ts";
import { usagesOf } from "./usages.ts";

const flags = {
  filter: filterFlag,
  quiet: { short: "q", help: "write keys only, one a line" },
  size: { short: "s", help: "measure them, too" },
  "no-trunc": { help: "show digests in full" },
  ...formatFlags,
} as const;

/** `ociw snapshots ls` */
export const ls: Command = {
  synopsis: "snapshots ls [flags]",
  summary: "Lists snapshots, the oldest first.",
  details: [],
  flags,

  async run(invocation) {
    const { flags: given, words, rest, terminal } = invocation;
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot list snapshots by key: want --filter, or info KEY");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const walk = snapshotter.walk(given["filter"] ?? [], signal);
      if (given["quiet"] !== undefined) {
        for await (const { name } of walk) {
          terminal.stdout.write(`${printable(name)}\n`);
        }
        return 0;
      }
      const infos = (await Array.fromAsync(walk)).sort(byAge);
      const usages = given["size"] === undefined ? undefined : await usagesOf(snapshotter, infos, signal);
      terminal.stdout.write(
        wantsJSON(given)
          ? json(infos.map((info) => measured(info, usages?.get(info.name))))
          : asTable(infos, usages, given["no-trunc"] === undefined ? shortName : printable),
      );
      return 0;
    });
  },
};

function asTable(
  infos: readonly Info[],
  usages: ReadonlyMap<string, Usage> | undefined,
  shown: (name: string) => string,
): string {
  const now = Date.now();
  const rows = infos.map(({ name, kind, parent, createdAtNs }) => {
    const size = usages?.get(name)?.sizeBytes;
    return [
      [shown(name)],
      [kind],
      [formatAge(createdAtNs, now)],
      ...(usages === undefined ? [] : [[size === undefined ? "-" : formatBytes(Number(size))]]),
      [parent === undefined ? "" : shown(parent)],
    ];
  });
  const headings = ["KEY", "KIND", "AGE", ...(usages === undefined ? [] : ["SIZE"]), "PARENT"];
  return table(headings, rows);
}
