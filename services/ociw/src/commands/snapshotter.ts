import { describeSnapshotter, type SnapshotterDescription } from "@oci-worker/snapshots/describe";
import { oneLine } from "../output/failure.ts";
import { table } from "../output/table.ts";
import { aboutSnapshotter, mountedBy } from "./about-snapshotter.ts";
import type { Command } from "./command.ts";

/** `ociw snapshotter` */
export const snapshotter: Command = aboutSnapshotter({
  synopsis: "snapshotter [flags]",
  summary: "Tells which backend keeps the snapshots, and why the others were passed over.",
  purpose: "describe",
  ask: describeSnapshotter,
  asText,
});

function asText(description: SnapshotterDescription): string {
  const { backend, wanted, reason, root, version, processID, snapshots, candidates } = description;
  const { active, view, committed } = snapshots;
  const { lazyMode, lazyPassedOver } = description;
  const lines = [
    ["Backend", `${backend} (${reason}; asked for: ${wanted})`],
    ["Root", root],
    ["Version", `${version}, process ${processID}`],
    ["Snapshots", `${committed} committed, ${active} active, ${view} views`],
    ["Client", description.owner ?? "none yet"],
    ["Overlays", description.mountOptions.join(",") || "no options"],
    ["On commit", description.syncOnCommit ? "waits for the disk" : "does not wait for files of snapshots"],
    ["Rebase", description.canRebase ? "yes" : "no"],
    ["Lazy layers", lazyMode === undefined ? "no" : `by ${mountedBy(lazyMode, lazyPassedOver)}`],
    ["Mapped ids", description.idMapObstacle === undefined ? "yes" : `no: ${description.idMapObstacle}`],
  ] as const;
  const told = lines.map(([term, value]) => `${`${term}:`.padEnd(13)}${oneLine(value)}\n`).join("");
  const rows = candidates.map((each) => [[each.backend], [each.state], [oneLine(each.obstacle ?? "-")]]);
  return `${told}\n${table(["BACKEND", "STATE", "OBSTACLE"], rows)}`;
}
