import type { Info } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable } from "../../output/printable.ts";
import type { Command } from "../command.ts";
import { description, sortedLabels, timeOf } from "./description.ts";
import { findSnapshot } from "./find.ts";
import { withSnapshotter } from "./target.ts";

/** `ociw snapshots info` */
export const info: Command = {
  synopsis: "snapshots info [flags] KEY...",
  summary: "Tells what is known of snapshots: kind, parent, times, labels.",
  details: [],
  flags: formatFlags,

  async run(invocation) {
    const { flags, words, rest, terminal } = invocation;
    const keys = [...words, ...(rest ?? [])];
    if (keys.length === 0) {
      throw new UsageError("Cannot tell about a snapshot: want its key");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const infos: Info[] = [];
      for (const key of keys) {
        infos.push(await findSnapshot(snapshotter, key, signal));
      }
      terminal.stdout.write(
        wantsJSON(flags) ? json(infos.map(description)) : infos.map(paragraph).join("\n"),
      );
      return 0;
    });
  },
};

function paragraph({ name, kind, parent, createdAtNs, updatedAtNs, labels }: Info): string {
  const lines = [
    ["Key", printable(name)],
    ["Kind", kind],
    ["Parent", parent === undefined ? "none" : printable(parent)],
    ["Created", timeOf(createdAtNs)],
    ["Updated", timeOf(updatedAtNs)],
    ...sortedLabels(labels).map(([label, value], index) => [
      index === 0 ? "Labels" : "",
      `${printable(label)}=${printable(value)}`,
    ]),
  ] as const;
  return lines.map(([term, value]) => `${(term === "" ? "" : `${term}:`).padEnd(9)}${value}\n`).join("");
}
