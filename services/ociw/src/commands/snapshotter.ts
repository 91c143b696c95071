import { UnimplementedError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { describeSnapshotter, type SnapshotterDescription } from "@oci-worker/snapshots/describe";
import { snapshotterAddressFlag, snapshotterAddressOf } from "../args/snapshotter-address.ts";
import { UsageError } from "../args/usage-error.ts";
import { oneLine } from "../output/failure.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { table } from "../output/table.ts";
import type { Command } from "./command.ts";

/** `ociw snapshotter` */
export const snapshotter: Command = {
  synopsis: "snapshotter [flags]",
  summary: "Tells which backend keeps the snapshots, and why the others were passed over.",
  details: ["Asks oci-snapshotter; other snapshotters do not tell."],
  flags: { "snapshotter-address": snapshotterAddressFlag, ...formatFlags },

  async run({ flags, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell about that: the command takes no words");
    }
    const address = snapshotterAddressOf(flags, terminal.env);
    using channel = unixChannel(address);
    const description = await describeSnapshotter(channel);
    if (description === undefined) {
      throw new UnimplementedError(`Cannot describe ${address}: it is no oci-snapshotter`);
    }
    terminal.stdout.write(wantsJSON(flags) ? json(description) : asText(description));
    return 0;
  },
};

function asText(description: SnapshotterDescription): string {
  const { backend, wanted, reason, root, version, processID, snapshots, candidates } = description;
  const { active, view, committed } = snapshots;
  const lines = [
    ["Backend", `${backend} (${reason}; asked for: ${wanted})`],
    ["Root", root],
    ["Version", `${version}, process ${processID}`],
    ["Snapshots", `${committed} committed, ${active} active, ${view} views`],
    ["Client", description.owner ?? "none yet"],
    ["Overlays", description.mountOptions.join(",") || "no options"],
    ["On commit", description.syncOnCommit ? "waits for the disk" : "does not wait for files of snapshots"],
    ["Rebase", description.canRebase ? "yes" : "no"],
    ["Mapped ids", description.idMapObstacle === undefined ? "yes" : `no: ${description.idMapObstacle}`],
  ] as const;
  const told = lines.map(([term, value]) => `${`${term}:`.padEnd(12)}${oneLine(value)}\n`).join("");
  const rows = candidates.map((each) => [[each.backend], [each.state], [oneLine(each.obstacle ?? "-")]]);
  return `${told}\n${table(["BACKEND", "STATE", "OBSTACLE"], rows)}`;
}
