import type { Info, Usage } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable, shortName } from "../../output/printable.ts";
import { table } from "../../output/table.ts";
import { type Symbols, symbolsFor } from "../../progress/style.ts";
import { formatBytes } from "../../progress/units.ts";
import type { Command } from "../command.ts";
import { measured } from "./description.ts";
import { filterFlag } from "./filter.ts";
import { findSnapshot } from "./find.ts";
import { forestOf, type Placed } from "./forest.ts";
import { withSnapshotter } from "./target.ts";
import { usagesOf } from "./usages.ts";

const flags = {
  filter: filterFlag,
  quiet: { short: "q", help: "leave kinds and sizes out" },
  "no-trunc": { help: "show digests in full" },
  ...formatFlags,
} as const;

/** `ociw snapshots tree` */
export const tree: Command = {
  synopsis: "snapshots tree [flags] [KEY]",
  summary: "Shows snapshots beneath the ones that they stand on, all or those above one.",
  details: [],
  flags,

  async run(invocation) {
    const { flags: given, words, rest, terminal } = invocation;
    const [key, unexpected] = [...words, ...(rest ?? [])];
    if (unexpected !== undefined) {
      throw new UsageError("Cannot show several trees: want one key at most");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const top = key === undefined ? undefined : (await findSnapshot(snapshotter, key, signal)).name;
      const infos = await Array.fromAsync(snapshotter.walk(given["filter"] ?? [], signal));
      const placed = forestOf(infos, top);
      const shown = placed.map(({ info }) => info);
      const isQuiet = given["quiet"] !== undefined;
      const usages = isQuiet ? new Map<string, Usage>() : await usagesOf(snapshotter, shown, signal);
      const nameOf = given["no-trunc"] === undefined ? shortName : printable;
      terminal.stdout.write(
        wantsJSON(given)
          ? json(nested(placed, usages))
          : drawing(placed, isQuiet ? undefined : usages, nameOf, symbolsFor(terminal.env)),
      );
      return 0;
    });
  },
};

function drawing(
  placed: readonly Placed[],
  usages: ReadonlyMap<string, Usage> | undefined,
  nameOf: (name: string) => string,
  symbols: Symbols,
): string {
  const names = placed.map(({ info, more }) => `${branches(more, symbols)}${nameOf(info.name)}`);
  if (usages === undefined) {
    return names.map((name) => `${name}\n`).join("");
  }
  const rows = placed.map(({ info }, index) => {
    const size = usages.get(info.name)?.sizeBytes;
    return [[names[index] ?? ""], [info.kind], [size === undefined ? "-" : formatBytes(Number(size))]];
  });
  return table(["KEY", "KIND", "SIZE"], rows);
}

function branches(more: readonly boolean[], { branch, lastBranch, trunk }: Symbols): string {
  const last = more.at(-1);
  if (last === undefined) {
    return "";
  }
  const levels = more.slice(0, -1).map((follow) => (follow ? `${trunk} ` : "  "));
  return `${levels.join("")}${last ? branch : lastBranch} `;
}

/** Each snapshot with those above it in `children`. */
function nested(placed: readonly Placed[], usages: ReadonlyMap<string, Usage>): object[] {
  const roots: object[] = [];
  const path: { readonly info: Info; readonly children: object[] }[] = [];
  for (const { info, more } of placed) {
    const children: object[] = [];
    const node = { ...measured(info, usages.get(info.name)), children };
    path.length = more.length;
    (path.at(-1)?.children ?? roots).push(node);
    path.push({ info, children });
  }
  return roots;
}
