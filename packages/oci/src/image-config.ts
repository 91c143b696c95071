import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { DiffID } from "./chain-id.ts";
import { parseDigest } from "./digest.ts";
import { Fields, type JsonObject, parseDocument } from "./document.ts";
import { normalizePlatform, type Platform } from "./platform.ts";

/** What an image is made of and how its containers are to be started (OCI image-spec, config.md). */
export interface ImageConfig {
  /** What it runs on, normalised. */
  readonly platform: Platform;
  /** From the base upwards. */
  readonly diffIDs: readonly DiffID[];
  /** `NAME=value` each, in the order of the config. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  /** Arguments of the entrypoint, or the command where there is none. */
  readonly cmd: readonly string[];
  /** Absolute path, or empty if the image does not say. */
  readonly workingDir: string;
  /** User name or id with or without group, as written; empty if the image does not say. */
  readonly user: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly stopSignal: string;
  /** The whole document, fields that we do not know included. */
  readonly document: JsonObject;
}

/**
 * Reads the config of an image.
 *
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const document = parseDocument("image config", bytes);
  const fields = new Fields("image config", document);
  const config = fields.object("config") ?? new Fields("image config", {}, "config");
  return {
    platform: parsePlatformOf(fields),
    diffIDs: parseDiffIDs(fields),
    env: parseArguments(config, "Env"),
    entrypoint: parseArguments(config, "Entrypoint"),
    cmd: parseArguments(config, "Cmd"),
    workingDir: config.text("WorkingDir") ?? "",
    user: config.text("User") ?? "",
    labels: config.textMap("Labels") ?? {},
    exposedPorts: config.set("ExposedPorts") ?? [],
    volumes: config.set("Volumes") ?? [],
    stopSignal: config.text("StopSignal") ?? "",
    document,
  };
}

function parsePlatformOf(fields: Fields): Platform {
  const variant = fields.text("variant");
  const osVersion = fields.text("os.version");
  return normalizePlatform({
    os: fields.text("os") ?? "",
    architecture: fields.text("architecture") ?? "",
    ...(variant && { variant }),
    ...(osVersion && { osVersion }),
  });
}

function parseDiffIDs(fields: Fields): DiffID[] {
  const rootfs = fields.object("rootfs");
  const type = rootfs?.text("type");
  if (rootfs !== undefined && type !== undefined && type !== "layers") {
    throw rootfs.error("type", `it is ${JSON.stringify(type.slice(0, 200))}, want "layers"`);
  }
  return rootfs?.parsedTexts("diff_ids", parseDigest) ?? [];
}

/** Texts that become arguments or environment of a process, which end at the first NUL. */
function parseArguments(fields: Fields, key: string): readonly string[] {
  return (
    fields.parsedTexts(key, (text) => {
      if (text.includes("\0")) {
        throw new InvalidArgumentError("it has a NUL, want a text that a process can be given");
      }
      return text;
    }) ?? []
  );
}
