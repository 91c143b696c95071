import type { Fields, JsonObject } from "@oci-worker/oci/document";

/** What a layer is for, and since when it is. */
export interface LayerOrigin {
  readonly description: string;
  readonly createdAtMs: number;
}

/** Says in a history who wrote the entry (BuildKit). */
const comment = "buildkit.exporter.image.v0";

/**
 * The history of an image: that of its config, made to have one entry for each layer, and each entry with a time.
 *
 * A config may know of fewer layers, because its frontend leaves the last ones to us; or of more, which are empty then.
 *
 * @param entries of the config.
 * @param epochSeconds nothing is younger.
 */
export function imageHistory(
  entries: readonly JsonObject[],
  layers: readonly LayerOrigin[],
  epochSeconds: number | undefined,
): JsonObject[] {
  const counted = withLayers(entries, layers);
  return withTimes(counted).map((entry) => {
    const created = clampedTime(entry["created"], epochSeconds);
    return created === undefined ? entry : { ...entry, created };
  });
}

/** `time` of a document, or the epoch if that is earlier or there is no time. */
export function clampedTime(time: unknown, epochSeconds: number | undefined): string | undefined {
  const text = typeof time === "string" ? time : undefined;
  if (epochSeconds === undefined) {
    return text;
  }
  const epochMs = epochSeconds * 1000;
  const isEarlier = text !== undefined && Date.parse(text) <= epochMs;
  return isEarlier ? text : new Date(epochMs).toISOString();
}

/** The entries of a config's history. @throws {InvalidArgumentError} if it is no list of objects. */
export function historyOf(fields: Fields, document: JsonObject): JsonObject[] {
  const entries = fields.objects("history");
  return entries === undefined ? [] : (document["history"] as JsonObject[]);
}

function withLayers(entries: readonly JsonObject[], layers: readonly LayerOrigin[]): JsonObject[] {
  let index = 0;
  const known = entries.map((entry) => {
    if (entry["empty_layer"] === true) {
      return entry;
    }
    const layer = layers[index];
    index += 1;
    if (layer === undefined) {
      return { ...entry, empty_layer: true };
    }
    return hasTime(entry) ? entry : { ...entry, created: timeOf(layer) };
  });
  const added = layers
    .slice(index)
    .map((layer) => ({ created: timeOf(layer), created_by: layer.description, comment }));
  return [...known, ...added];
}

/** An entry without a time happened when the layer after it was made, or else when the last one was. */
function withTimes(entries: readonly JsonObject[]): JsonObject[] {
  const last = entries.findLast(hasTime)?.["created"];
  return entries.map((entry, index) => {
    const created = hasTime(entry) ? undefined : (entries.slice(index).find(hasTime)?.["created"] ?? last);
    return created === undefined ? entry : { ...entry, created };
  });
}

function hasTime(entry: JsonObject): boolean {
  return typeof entry["created"] === "string";
}

function timeOf({ createdAtMs }: LayerOrigin): string {
  return new Date(createdAtMs).toISOString();
}
