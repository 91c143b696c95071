import { InvalidArgumentError } from "@oci-worker/errdefs";
import { formatPlatform, normalizePlatform, type Platform, parsePlatform } from "@oci-worker/oci/platform";

/** Something that the client wants noted on the image. */
export interface Annotation {
  /** In the manifest, or where the index of a layout lists that. */
  readonly on: "manifest" | "manifest-descriptor";
  /** Only of the image for that platform; undefined: of all. */
  readonly platform: Platform | undefined;
  readonly name: string;
  readonly value: string;
}

/** `annotation.NAME`, `annotation-manifest[PLATFORM].NAME` and the like (BuildKit, docs/annotations.md). */
const attribute = /^annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)$/;

/**
 * Tells annotations from other attributes.
 *
 * @throws {InvalidArgumentError} for annotations of what a single image does not have.
 */
export function takeAnnotations(attributes: Readonly<Record<string, string>>): {
  readonly annotations: readonly Annotation[];
  readonly rest: Readonly<Record<string, string>>;
} {
  const annotations: Annotation[] = [];
  const rest: Record<string, string> = {};
  for (const [key, value] of Object.entries(attributes)) {
    const [matched, on = "manifest", platform, name = ""] = attribute.exec(key) ?? [];
    if (matched === undefined) {
      rest[key] = value;
      continue;
    }
    annotations.push({
      on: placeOf(on),
      platform: platform === undefined ? undefined : normalizePlatform(parsePlatform(platform)),
      name,
      value,
    });
  }
  return { annotations, rest };
}

/**
 * The annotations for the image of `platform`, by their names.
 *
 * @throws {InvalidArgumentError} if one is for another platform.
 */
export function annotationsFor(
  annotations: readonly Annotation[],
  on: Annotation["on"],
  platform: Platform,
): Readonly<Record<string, string>> {
  const stranger = annotations.find(
    (each) => each.platform !== undefined && formatPlatform(each.platform) !== formatPlatform(platform),
  );
  if (stranger?.platform !== undefined) {
    throw new InvalidArgumentError(
      `invalid annotation: no platform ${formatPlatform(stranger.platform)} found in source, want ${formatPlatform(platform)}`,
    );
  }
  const wanted = annotations.filter((each) => each.on === on);
  return Object.fromEntries(wanted.map(({ name, value }) => [name, value]));
}

function placeOf(text: string): Annotation["on"] {
  switch (text) {
    case "manifest":
    case "manifest-descriptor":
      return text;
    case "index":
    case "index-descriptor":
      throw new InvalidArgumentError("index annotations not supported for single platform export");
    default:
      throw new InvalidArgumentError(
        `unrecognized annotation type ${text}, want manifest or manifest-descriptor`,
      );
  }
}
