import type { Change } from "@oci-worker/layer/change";
import { compareTrees } from "@oci-worker/layer/compare-trees";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { formatFlags, json, wantsJSON } from "../../output/format.ts";
import { printable } from "../../output/printable.ts";
import { formatBytes } from "../../progress/units.ts";
import type { Command } from "../command.ts";
import { findSnapshot } from "./find.ts";
import { showTrees } from "./shown-trees.ts";
import { withSnapshotter } from "./target.ts";

const flags = {
  quiet: { short: "q", help: "write paths only, one a line" },
  ...formatFlags,
} as const;

/** `ociw snapshots diff` */
export const diff: Command = {
  synopsis: "snapshots diff [flags] KEY [PARENT]",
  summary:
    "Lists what a snapshot has added (A), changed (C) and deleted (D) since its parent, or since another one.",
  details: [
    "Mounts both for reading, by temporary views where they are committed. It needs root, and has to run where the\n" +
      "snapshotter's paths are. What changes meanwhile may be shown or not.",
  ],
  flags,

  async run(invocation) {
    const { flags: given, words, rest, terminal } = invocation;
    const [key, parent, unexpected] = [...words, ...(rest ?? [])];
    if (key === undefined || unexpected !== undefined) {
      throw new UsageError("Cannot compare: want one key, and a second one to compare with if you like");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      const upper = await findSnapshot(snapshotter, key, signal);
      const base = parent ?? upper.parent;
      const lower: Info | undefined =
        base === undefined ? undefined : await findSnapshot(snapshotter, base, signal);
      await using trees = await showTrees(snapshotter, lower, upper, signal);
      const changes = compareTrees(trees, signal);
      if (wantsJSON(given)) {
        terminal.stdout.write(json((await Array.fromAsync(changes)).map(changeDescription)));
        return 0;
      }
      const lineOf = given["quiet"] === undefined ? line : ({ path }: Change) => shownPath(path);
      for await (const change of changes) {
        terminal.stdout.write(`${lineOf(change)}\n`);
      }
      return 0;
    });
  },
};

/** Letters of types as ls(1) has them. */
const letters: Readonly<Record<Change["type"], string>> = {
  "block device": "b",
  "character device": "c",
  directory: "d",
  fifo: "p",
  file: "-",
  socket: "s",
  symlink: "l",
};

const sizeColumns = 7;

/** As `A -0644   1.2kB etc/hosts`: no table, because the widths would be known only at the end. */
function line({ kind, type, mode, sizeBytes, path }: Change): string {
  const size = kind !== "D" && type === "file" ? formatBytes(sizeBytes) : "-";
  const slash = type === "directory" ? "/" : "";
  return `${kind} ${letters[type]}${octal(mode)} ${size.padStart(sizeColumns)} ${shownPath(path)}${slash}`;
}

function changeDescription({ kind, type, mode, sizeBytes, path }: Change): object {
  return { kind, path: shownPath(path), type, mode: octal(mode), sizeBytes };
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

function shownPath(path: Buffer): string {
  return path.length === 0 ? "." : printable(path);
}
