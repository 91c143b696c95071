import { unixChannel } from "@oci-worker/grpc/channel";
import { explainSnapshot, type SnapshotExplanation } from "@oci-worker/snapshots/explain";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import { snapshotterAddressOf } from "../../args/snapshotter-address.ts";
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
  details: ["Of oci-snapshotter also: its directory, where it is mounted, why it cannot be removed."],
  flags: formatFlags,

  async run(invocation) {
    const { flags, words, rest, terminal } = invocation;
    const keys = [...words, ...(rest ?? [])];
    if (keys.length === 0) {
      throw new UsageError("Cannot tell about a snapshot: want its key");
    }
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      using channel = unixChannel(snapshotterAddressOf(flags, terminal.env));
      const found: Found[] = [];
      for (const key of keys) {
        const info = await findSnapshot(snapshotter, key, signal);
        found.push({ info, explanation: await explainSnapshot(channel, info.name, signal) });
      }
      terminal.stdout.write(
        wantsJSON(flags)
          ? json(found.map(({ info, explanation }) => ({ ...description(info), ...explanation })))
          : found.map(paragraph).join("\n"),
      );
      return 0;
    });
  },
};

interface Found {
  readonly info: Info;
  /** Undefined if the snapshotter is none of ours. */
  readonly explanation: SnapshotExplanation | undefined;
}

function paragraph({ info, explanation }: Found): string {
  const { name, kind, parent, createdAtNs, updatedAtNs, labels } = info;
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
    ...(explanation === undefined ? [] : explained(explanation)),
  ] as const;
  return lines.map(([term, value]) => `${(term === "" ? "" : `${term}:`).padEnd(11)}${value}\n`).join("");
}

function explained(explanation: SnapshotExplanation): [term: string, value: string][] {
  const { directory, mountPoints, removalObstacle, lazyLayerDigest, lazyObstacle } = explanation;
  const lines: [string, string | undefined][] = [
    ["Directory", directory],
    ["Mounted", mountPoints.length === 0 ? "nowhere" : mountPoints[0]],
    ...mountPoints.slice(1).map((mountPoint): [string, string] => ["", mountPoint]),
    ["Removal", removalObstacle ?? "possible"],
    ["Lazy", lazyLayerDigest ?? (lazyObstacle && `no: ${lazyObstacle}`)],
  ];
  return lines.flatMap(([term, value]) => (value === undefined ? [] : [[term, printable(value)]]));
}
