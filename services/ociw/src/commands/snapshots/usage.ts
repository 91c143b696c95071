import type { Info, Snapshotter, Usage } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable, shortName } from "../../output/printable.ts";
import { table } from "../../output/table.ts";
import { formatBytes } from "../../progress/units.ts";
import type { Command } from "../command.ts";
import { byAge, usageDescription } from "./description.ts";
import { filterFlag } from "./filter.ts";
import { findSnapshot } from "./find.ts";
import { withSnapshotter } from "./target.ts";
import { usagesOf } from "./usages.ts";

const flags = {
  filter: filterFlag,
  bytes: { short: "b", help: "show bytes, not rounded" },
  "no-trunc": { help: "show digests in full" },
  ...formatFlags,
} as const;

/** `ociw snapshots usage` */
export const usage: Command = {
  synopsis: "snapshots usage [flags] [KEY...]",
  summary: "Measures what snapshots take up on disk, parents not counted: those named, or all.",
  details: [],
  flags,

  async run(invocation) {
    const { flags: given, words, rest, terminal } = invocation;
    const keys = [...words, ...(rest ?? [])];
    if (keys.length > 0 && given["filter"] !== undefined) {
      throw new UsageError("Cannot use --filter with keys: want one of the two");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const chosen =
        keys.length > 0
          ? await named(snapshotter, keys, signal)
          : (await Array.fromAsync(snapshotter.walk(given["filter"] ?? [], signal))).sort(byAge);
      const usages = await usagesOf(snapshotter, chosen, signal);
      const rows = chosen.flatMap(({ name }) => {
        const of = usages.get(name);
        return of === undefined ? [] : [{ name, of }];
      });
      const size = given["bytes"] === undefined ? (bytes: bigint) => formatBytes(Number(bytes)) : String;
      terminal.stdout.write(
        wantsJSON(given)
          ? json(rows.map(({ name, of }) => ({ name, ...usageDescription(of) })))
          : asTable(rows, size, given["no-trunc"] === undefined ? shortName : printable),
      );
      return 0;
    });
  },
};

async function named(
  snapshotter: Snapshotter,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<Info[]> {
  const infos: Info[] = [];
  for (const key of keys) {
    infos.push(await findSnapshot(snapshotter, key, signal));
  }
  return infos;
}

function asTable(
  rows: readonly { readonly name: string; readonly of: Usage }[],
  size: (bytes: bigint) => string,
  nameOf: (name: string) => string,
): string {
  const line = (name: string, { sizeBytes, inodes }: Usage) => [[name], [size(sizeBytes)], [String(inodes)]];
  const total = rows.reduce(
    (sum, { of }) => ({ sizeBytes: sum.sizeBytes + of.sizeBytes, inodes: sum.inodes + of.inodes }),
    { sizeBytes: 0n, inodes: 0n },
  );
  return table(
    ["KEY", "SIZE", "INODES"],
    [
      ...rows.map(({ name, of }) => line(nameOf(name), of)),
      ...(rows.length > 1 ? [line("total", total)] : []),
    ],
  );
}
