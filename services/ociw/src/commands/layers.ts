import { UnimplementedError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { type LazyLayer, type LazyLayerList, listLazyLayers } from "@oci-worker/snapshots/lazy-layers";
import { snapshotterAddressFlag, snapshotterAddressOf } from "../args/snapshotter-address.ts";
import { UsageError } from "../args/usage-error.ts";
import { oneLine } from "../output/failure.ts";
import { formatFlags, json, wantsJSON } from "../output/format.ts";
import { shortName } from "../output/printable.ts";
import { table } from "../output/table.ts";
import { type Symbols, symbolsFor } from "../progress/style.ts";
import { formatBytes } from "../progress/units.ts";
import type { Command } from "./command.ts";

/** Columns of the bar that shows how much of a layer is here. */
const barWidth = 20;

/** `ociw layers` */
export const layers: Command = {
  synopsis: "layers [flags]",
  summary: "Tells of the lazy layers: how much of each is here, who serves it, and what stands in its way.",
  details: ["Asks oci-snapshotter; other snapshotters do not tell."],
  flags: { "snapshotter-address": snapshotterAddressFlag, ...formatFlags },

  async run({ flags, words, rest, terminal }) {
    if (words.length > 0 || rest !== undefined) {
      throw new UsageError("Cannot tell about that: the command takes no words");
    }
    const address = snapshotterAddressOf(flags, terminal.env);
    using channel = unixChannel(address);
    const list = await listLazyLayers(channel);
    if (list === undefined) {
      throw new UnimplementedError(`Cannot list the layers of ${address}: it is no oci-snapshotter`);
    }
    terminal.stdout.write(wantsJSON(flags) ? json(list) : asText(list, symbolsFor(terminal.env)));
    return 0;
  },
};

function asText({ layers: all, mode, passedOver }: LazyLayerList, symbols: Symbols): string {
  if (mode === undefined) {
    return "This snapshotter has no lazy layers: its backend is not stargz.\n";
  }
  const better = passedOver.map((each) => `${each.mode}: ${oneLine(each.obstacle)}`).join("; ");
  const head = `Mounted by ${mode}${better === "" ? "" : ` (${better})`}\n`;
  const rows = all.map((layer) => [
    [shortName(layer.digest)],
    [bar(layer, symbols)],
    [`${formatBytes(layer.cachedBytes)} / ${formatBytes(layer.contentBytes)}`],
    [formatBytes(layer.fetchedBytes)],
    [stateOf(layer)],
    [layer.reference === undefined ? "-" : oneLine(layer.reference), ...failureLines(layer)],
  ]);
  return `${head}\n${table(["LAYER", "HERE", "", "FETCHED", "STATE", "IMAGE"], rows)}`;
}

function bar({ cachedBytes, contentBytes, complete }: LazyLayer, { barFull, barEmpty }: Symbols): string {
  const share = complete || contentBytes === 0 ? 1 : Math.min(1, cachedBytes / contentBytes);
  // A bar that is full says that nothing is missing.
  const full = share === 1 ? barWidth : Math.min(barWidth - 1, Math.floor(share * barWidth));
  return barFull.repeat(full) + barEmpty.repeat(barWidth - full);
}

function stateOf({ failure, complete, activity }: LazyLayer): string {
  if (failure !== undefined) {
    return "failing";
  }
  return complete ? "complete" : activity === "none" ? "on demand" : activity;
}

function failureLines({ failure, host }: LazyLayer): string[] {
  return failure === undefined ? [] : [oneLine(host === undefined ? failure : `${host}: ${failure}`)];
}
