import type { DiffID } from "@oci-worker/oci/chain-id";
import { Fields, type JsonObject, parseDocument } from "@oci-worker/oci/document";
import { normalizePlatform, type Platform } from "@oci-worker/oci/platform";
import type { ResultMetadata } from "../builds/exporter.ts";
import { defaultPath } from "../ops/step-environment.ts";
import { clampedTime, historyOf, imageHistory, type LayerOrigin } from "./history.ts";

/** The config of an image that is made of a result. */
export interface NewConfig {
  readonly bytes: Buffer;
  readonly platform: Platform;
}

/** By these keys clients give a config and name the one platform of their result (BuildKit, exptypes). */
const [configKey, platformsKey] = ["containerimage.config", "refs.platforms"];

/**
 * The config of an image with these layers: the client's, its file system exchanged for ours; without one of the client's the
 * least that runs.
 *
 * @param platform of the worker, for a config that does not say.
 * @throws {InvalidArgumentError} if the client's is no config.
 */
export function imageConfig(
  metadata: ResultMetadata,
  layers: readonly (LayerOrigin & { readonly diffID: DiffID })[],
  platform: Platform,
  epochSeconds: number | undefined,
): NewConfig {
  const given = givenConfig(metadata);
  const document = given === undefined ? leastConfig(platform) : parseDocument("image config", given);
  const fields = new Fields("image config", document);
  const history = imageHistory(historyOf(fields, document), layers, epochSeconds);
  const lastTime = history.findLast(({ created }) => created !== undefined)?.["created"];
  const created =
    document["created"] === undefined ? lastTime : clampedTime(document["created"], epochSeconds);
  const complete = {
    ...document,
    ...(created !== undefined && { created }),
    rootfs: { type: "layers", diff_ids: layers.map(({ diffID }) => diffID) },
    history,
  };
  return { bytes: Buffer.from(JSON.stringify(complete)), platform: platformOf(fields) ?? platform };
}

/** One platform may be named, and then the config goes by its name. */
function givenConfig(metadata: ResultMetadata): Uint8Array | undefined {
  const platforms = metadata[platformsKey];
  if (platforms !== undefined && platforms.length > 0) {
    const document = new Fields("platforms", parseDocument("platforms", platforms));
    const [first] = document.objects("Platforms") ?? [];
    const id = first?.text("ID");
    const own = id === undefined ? undefined : metadata[`${configKey}/${id}`];
    if (own !== undefined && own.length > 0) {
      return own;
    }
  }
  const config = metadata[configKey];
  return config === undefined || config.length === 0 ? undefined : config;
}

function leastConfig({ os, architecture, variant }: Platform): JsonObject {
  return {
    architecture,
    os,
    ...(variant !== undefined && { variant }),
    config: { Env: [defaultPath], WorkingDir: "/" },
  };
}

function platformOf(fields: Fields): Platform | undefined {
  const [os = "", architecture = "", variant = ""] = ["os", "architecture", "variant"].map((key) =>
    fields.text(key),
  );
  return os === "" || architecture === ""
    ? undefined
    : normalizePlatform({ os, architecture, ...(variant !== "" && { variant }) });
}
