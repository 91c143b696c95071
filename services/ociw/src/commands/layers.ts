import { type LazyLayer, type LazyLayerList, listLazyLayers } from "@oci-worker/snapshots/lazy-layers";
import { oneLine } from "../output/failure.ts";
import { shortName } from "../output/printable.ts";
import { table } from "../output/table.ts";
import { type Symbols, symbolsFor } from "../progress/style.ts";
import { formatBytes } from "../progress/units.ts";
import { aboutSnapshotter, mountedBy } from "./about-snapshotter.ts";
import type { Command } from "./command.ts";

/** Columns of the bar that shows how much of a layer is here. */
const barWidth = 20;

/** `ociw layers` */
export const layers: Command = aboutSnapshotter({
  synopsis: "layers [flags]",
  summary: "Tells of the lazy layers: how much of each is here, who serves it, and what stands in its way.",
  purpose: "list the layers of",
  ask: listLazyLayers,
  asText,
});

function asText({ layers: all, mode, passedOver }: LazyLayerList, environment: NodeJS.ProcessEnv): string {
  if (mode === undefined) {
    return "This snapshotter has no lazy layers: its backend is not stargz.\n";
  }
  const symbols = symbolsFor(environment);
  const rows = all.map((layer) => [
    [shortName(layer.digest)],
    [bar(layer, symbols)],
    [`${formatBytes(layer.cachedBytes)} / ${formatBytes(layer.contentBytes)}`],
    [formatBytes(layer.fetchedBytes)],
    [stateOf(layer)],
    [oneLine(layer.reference), ...failureLines(layer)],
  ]);
  const rowsBelow = table(["LAYER", "HERE", "", "FETCHED", "STATE", "IMAGE"], rows);
  return `Mounted by ${mountedBy(mode, passedOver)}\n\n${rowsBelow}`;
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
