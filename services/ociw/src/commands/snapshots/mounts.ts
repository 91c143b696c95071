import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import { UsageError } from "../../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable, shellWord } from "../../output/printable.ts";
import { table } from "../../output/table.ts";
import type { Command } from "../command.ts";
import { findSnapshot } from "./find.ts";
import { withSnapshotter } from "./target.ts";

/** `ociw snapshots mounts` */
export const mounts: Command = {
  synopsis: "snapshots mounts [flags] KEY [TARGET]",
  summary: "Tells how to mount an active snapshot or a view; with TARGET, as commands for a shell.",
  details: [],
  flags: formatFlags,

  async run(invocation) {
    const { flags, words, rest, terminal } = invocation;
    const [key, target, unexpected] = [...words, ...(rest ?? [])];
    if (key === undefined || unexpected !== undefined) {
      throw new UsageError("Cannot tell mounts: want one key, and where to mount if you like");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const { name, kind } = await findSnapshot(snapshotter, key, signal);
      if (kind === "committed") {
        throw new FailedPreconditionError(
          `Cannot mount ${JSON.stringify(printable(name))}: it is committed, want an active snapshot or a view on it`,
        );
      }
      const list = await snapshotter.mounts(name, signal);
      const text = target === undefined ? asTable(list) : commands(list, target);
      terminal.stdout.write(wantsJSON(flags) ? json(list) : text);
      return 0;
    });
  },
};

function asTable(list: readonly Mount[]): string {
  const rows = list.map(({ type, source, options }) => [
    [printable(type)],
    [printable(source)],
    options.map(printable),
  ]);
  return table(["TYPE", "SOURCE", "OPTIONS"], rows);
}

function commands(list: readonly Mount[], target: string): string {
  return list
    .map(({ type, source, options }) => {
      const chosen = options.length === 0 ? [] : ["-o", options.join(",")];
      return `${["mount", "-t", type, ...chosen, source, target].map(shellWord).join(" ")}\n`;
    })
    .join("");
}
