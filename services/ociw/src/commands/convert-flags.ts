import { maxChunkBytes } from "@oci-worker/estargz/build";
import { type Platform, parsePlatform } from "@oci-worker/oci/platform";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import { parsed } from "../args/parsed.ts";
import { UsageError } from "../args/usage-error.ts";
import type { LayerSettings } from "../convert/layer-converter.ts";
import type { ProgressMode } from "../progress/display.ts";
import { credentialFlags, usernameOf } from "./credentials.ts";
import { progressFlag, progressOf } from "./progress-flag.ts";

export const convertFlags = {
  format: {
    value: "FORMAT",
    choices: ["estargz", "zstdchunked"],
    help: "of the layers: estargz, which all runtimes read, or zstdchunked (default estargz)",
  },
  record: {
    value: "FILE",
    help: "files that containers read first, in their order: paths, or what ctr-remote records",
  },
  "chunk-size": { value: "BYTES", help: "what is read of a file at once (default 4MiB)" },
  "min-member-size": {
    value: "BYTES",
    help: "compress small files together up to this size (default 0: each by itself)",
  },
  level: { value: "NUMBER", help: "of the compressor: 0 to 9, for zstdchunked 1 to 22 (default 6, 3)" },
  platform: {
    value: "PLATFORM",
    multiple: true,
    help: "only the image for this platform, such as linux/arm64; may be repeated",
  },
  "max-unpacked-size": {
    value: "BYTES",
    help: "refuse layers that unpack to more than this (default 256GiB)",
  },
  ...credentialFlags("NEWREF"),
  ...progressFlag,
  json: { help: "tell what was made as JSON" },
} as const satisfies FlagSpecs;

/** What to convert, as the command line says it. */
export interface ConvertRequest {
  readonly image: Reference;
  readonly target: Reference & { readonly tag: string };
  readonly settings: LayerSettings;
  /** Path of the file. */
  readonly record: string | undefined;
  readonly platforms: readonly Platform[];
  readonly username: string | undefined;
  readonly progress: ProgressMode;
  readonly json: boolean;
}

/**
 * Makes sense of what was parsed by {@link convertFlags}.
 *
 * @throws {UsageError} if it makes none.
 */
export function convertRequest({ flags, words, rest }: ParsedArgs): ConvertRequest {
  const one = (name: keyof typeof convertFlags) => flags[name]?.[0];
  const [image, target, ...others] = words;
  if (image === undefined || target === undefined || others.length > 0 || rest !== undefined) {
    throw new UsageError(
      'Cannot convert: want an image and the name for the new one, such as in "convert registry/app:1 registry/app:1-lazy"',
    );
  }
  const isEstargz = one("format") !== "zstdchunked";
  const size = (name: keyof typeof convertFlags, max: number) => {
    const text = one(name);
    return text === undefined ? undefined : sizeOf(name, text, max);
  };
  const chunkBytes = size("chunk-size", maxChunkBytes);
  const minMemberBytes = size("min-member-size", maxChunkBytes);
  const maxUnpackedBytes = size("max-unpacked-size", Number.MAX_SAFE_INTEGER);
  const level = levelOf(one("level"), isEstargz ? [0, 9] : [1, 22]);
  return {
    image: parsed(parseReference, image),
    target: targetOf(parsed(parseReference, target)),
    settings: {
      format: isEstargz ? "eStargz" : "zstd:chunked",
      ...(chunkBytes !== undefined && { chunkBytes }),
      ...(minMemberBytes !== undefined && { minMemberBytes }),
      ...(maxUnpackedBytes !== undefined && { maxUnpackedBytes }),
      ...(level !== undefined && { level }),
    },
    record: one("record"),
    platforms: (flags["platform"] ?? []).map((text) => parsed(parsePlatform, text)),
    username: usernameOf(flags),
    progress: progressOf(flags),
    json: flags["json"] !== undefined,
  };
}

function targetOf(target: Reference): Reference & { readonly tag: string } {
  const { digest, tag } = target;
  if (digest !== undefined || tag === undefined) {
    throw new UsageError(
      `Cannot convert to ${formatReference(target)}: its digest comes of the conversion, want a tag`,
    );
  }
  return { ...target, tag };
}

const units: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

function sizeOf(name: string, text: string, maxBytes: number): number {
  const [, digits, unit = ""] = /^(\d{1,15})([A-Za-z]*)$/.exec(text) ?? [];
  const bytes = Number(digits) * (Object.hasOwn(units, unit) ? (units[unit] ?? Number.NaN) : Number.NaN);
  const minBytes = name === "min-member-size" ? 0 : 1;
  if (!(bytes >= minBytes && bytes <= maxBytes)) {
    throw new UsageError(
      `Cannot use --${name} ${JSON.stringify(text)}: want ${minBytes} to ${maxBytes} bytes, with or without ${Object.keys(units).slice(2).join(", ")}`,
    );
  }
  return bytes;
}

function levelOf(text: string | undefined, [min, max]: readonly [number, number]): number | undefined {
  if (text === undefined) {
    return undefined;
  }
  const level = /^\d{1,2}$/.test(text) ? Number(text) : -1;
  if (level < min || level > max) {
    throw new UsageError(`Cannot use --level ${JSON.stringify(text)}: want ${min} to ${max}`);
  }
  return level;
}
