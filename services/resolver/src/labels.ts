import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import {
  criGroup,
  isAboutSources,
  type LabelGroup,
  labelGroups,
  plainGroup,
  urlsLabel,
} from "./label-groups.ts";

/** A layer as labels name it: without media type and size. */
export interface LayerName {
  readonly digest: Digest;
  /** Other places where it can be had. */
  readonly urls: readonly string[];
}

/** One image that has the layer which a snapshot is for. */
export interface Candidate {
  /** Tells the groups of labels apart; empty for labels without one. */
  readonly id: string;
  /** The label that names the image. */
  readonly label: string;
  readonly reference: Reference;
  readonly target: LayerName;
  /** The target first, then its neighbours in the order of the label, each once. */
  readonly layers: readonly LayerName[];
  /** Digest of the target's table of contents. */
  readonly tocDigest?: Digest;
  readonly sessionIDs: readonly string[];
}

/** Why a label led to nothing. */
export type SkipReason =
  | "no-reference"
  | "bad-reference"
  | "no-digest"
  | "bad-digest"
  | "bad-layers"
  | "bad-toc-digest"
  | "bad-url"
  | "bad-hosts";

/** A label that led to nothing. */
export interface Skipped {
  readonly id: string;
  /** The label at fault, or the one that is missing. */
  readonly label: string;
  readonly reason: SkipReason;
  /** For people: what was read, and what is wanted. */
  readonly message: string;
}

export interface ParsedLabels {
  /** By id as text; the group without one comes after these, and containerd's own last. */
  readonly candidates: readonly Candidate[];
  readonly skipped: readonly Skipped[];
}

/** Groups of one snapshot that are looked at. BuildKit makes one for each image that has the layer. */
const maxGroups = 1024;

/** Sessions of one group that are looked at. */
const maxSessions = 64;

type Labels = ReadonlyMap<string, string>;
type Report = (skipped: Omit<Skipped, "id">) => void;

/**
 * Reads the images out of the labels of a snapshot.
 *
 * What cannot be used is told in `skipped`. It costs the whole group if the image or the layer itself is not known, and
 * only itself otherwise: an absent or bad list of neighbours loses no source.
 *
 * @throws {InvalidArgumentError} if none of the labels is about sources, so that whoever sent them means something else;
 * and if there are more groups than anybody can mean.
 */
export function parseLabels(labels: Readonly<Record<string, string>>): ParsedLabels {
  const all: Labels = new Map(Object.entries(labels));
  if (![...all.keys()].some(isAboutSources)) {
    throw new InvalidArgumentError(
      `Cannot resolve sources: none of the ${all.size} labels is about them, want ${plainGroup.reference} and ${plainGroup.digest}, or ${criGroup.reference} and ${criGroup.digest}`,
    );
  }
  const groups = labelGroups(all.keys());
  if (groups.length > maxGroups) {
    throw new InvalidArgumentError(
      `Cannot read labels: they name ${groups.length} images, want at most ${maxGroups}`,
    );
  }
  const skipped: Skipped[] = [];
  const places = parsePlaces(all, (skip) => skipped.push({ id: "", ...skip }));
  const candidates = groups.flatMap((group) => {
    const candidate = parseGroup(group, all, places, (skip) => skipped.push({ id: group.id, ...skip }));
    return candidate === undefined ? [] : [candidate];
  });
  if (groups.length === 0) {
    skipped.push({ id: "", ...missing(plainGroup.reference, "no-reference", "no label names an image") });
  }
  return { candidates: withoutRepetition(candidates), skipped: eachOnce(skipped) };
}

/** A label that two groups share, or with several bad entries of which no more is said, is told once. */
function eachOnce(skipped: readonly Skipped[]): Skipped[] {
  return [...new Map(skipped.map((skip) => [JSON.stringify(skip), skip])).values()];
}

/** The labels without an id and those of containerd may say the same; neither has a session that tells them apart. */
function withoutRepetition(candidates: readonly Candidate[]): Candidate[] {
  const seen = new Set<string>();
  return candidates.filter(({ id, reference, target }) => {
    const key = JSON.stringify([id, formatReference(reference), target.digest]);
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}

function parseGroup(
  group: LabelGroup,
  labels: Labels,
  places: Places,
  report: Report,
): Candidate | undefined {
  const reference = parseReferenceLabel(group.reference, labels, report);
  const digest = parseDigestLabel(group.digest, labels, report);
  if (reference === undefined || digest === undefined) {
    return undefined;
  }
  const layerNamed = (each: Digest) => ({ digest: each, urls: places.get(each) ?? [] });
  const target = layerNamed(digest);
  const neighbours = parseLayers(group.layers, labels, report);
  neighbours.delete(digest);
  const tocDigest = tocDigestOf(group, digest, labels, report);
  return {
    id: group.id,
    label: group.reference,
    reference,
    target,
    layers: [target, ...[...neighbours].map(layerNamed)],
    ...(tocDigest && { tocDigest }),
    sessionIDs: sessionIDs(group, labels),
  };
}

function parseReferenceLabel(label: string, labels: Labels, report: Report): Reference | undefined {
  const text = labels.get(label) ?? "";
  if (text === "") {
    report(missing(label, "no-reference", "it names no image"));
    return undefined;
  }
  return attempt(() => parseReference(text), label, "bad-reference", report);
}

function parseDigestLabel(label: string, labels: Labels, report: Report): Digest | undefined {
  const text = labels.get(label) ?? "";
  if (text === "") {
    report(missing(label, "no-digest", "it names no layer"));
    return undefined;
  }
  return attempt(() => parseDigest(text), label, "bad-digest", report);
}

/**
 * What the group says, or else what is said without an id of the same layer. BuildKit sets the label to an empty text
 * where it knows no digest.
 */
function tocDigestOf(
  { tocDigest: label }: LabelGroup,
  digest: Digest,
  labels: Labels,
  report: Report,
): Digest | undefined {
  const own = parseTocDigest(label, labels, report);
  const isShared = label !== plainGroup.tocDigest && plainTarget(labels) === digest;
  // Of a label without an id that is no good its own group tells.
  return own ?? (isShared ? parseTocDigest(plainGroup.tocDigest, labels, () => undefined) : undefined);
}

function parseTocDigest(label: string, labels: Labels, report: Report): Digest | undefined {
  const text = labels.get(label) ?? "";
  return text === "" ? undefined : attempt(() => parseDigest(text), label, "bad-toc-digest", report);
}

/** The layers that a label lists, in its order. */
function parseLayers(label: string, labels: Labels, report: Report): Set<Digest> {
  const layers = new Set<Digest>();
  for (const text of split(labels.get(label))) {
    const digest = attempt(() => parseDigest(text), label, "bad-layers", report);
    if (digest !== undefined) {
      layers.add(digest);
    }
  }
  return layers;
}

/** Other places of layers, by digest. */
type Places = ReadonlyMap<string, readonly string[]>;

/**
 * Only labels without an id name other places, because BuildKit makes no copies of these with one. A blob is what its
 * digest says, wherever it is from, so they count for each group that has it.
 */
function parsePlaces(labels: Labels, report: Report): Places {
  const places = new Map<string, readonly string[]>();
  const layers = labels.get(plainGroup.layers) || labels.get(criGroup.layers);
  for (const [index, digest] of split(layers).entries()) {
    if (!places.has(digest)) {
      places.set(digest, parseUrls(`${urlsLabel}.${index}`, labels, report));
    }
  }
  const ofTarget = parseUrls(urlsLabel, labels, report);
  const target = plainTarget(labels);
  if (target !== undefined && ofTarget.length > 0) {
    places.set(target, ofTarget);
  }
  return places;
}

/** The layer that labels without an id are about. */
function plainTarget(labels: Labels): string | undefined {
  return labels.get(plainGroup.digest) || labels.get(criGroup.digest);
}

function parseUrls(label: string, labels: Labels, report: Report): string[] {
  return split(labels.get(label)).filter((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const isUsable = /^https?:$/.test(url?.protocol ?? "") && url?.username === "" && url.password === "";
    if (!isUsable) {
      // Without the value: a URL may be signed.
      report(missing(label, "bad-url", "it has an entry that is no http or https URL without user"));
    }
    return isUsable;
  });
}

/** Sessions of a group, numbered from 0 up to the first gap. */
function sessionIDs({ session }: LabelGroup, labels: Labels): string[] {
  const ids: string[] = [];
  while (session !== undefined && ids.length < maxSessions) {
    const sessionID = labels.get(`${session.start}${ids.length}${session.end}`);
    if (sessionID === undefined || sessionID === "") {
      break;
    }
    ids.push(sessionID);
  }
  return ids;
}

function split(list: string | undefined): string[] {
  return (list ?? "").split(",").filter((entry) => entry !== "");
}

function missing(label: string, reason: SkipReason, what: string): Omit<Skipped, "id"> {
  return { label, reason, message: `${cannotUse(label)}: ${what}` };
}

/** How the message about a label starts, cut where its name gets too long for an error. */
export function cannotUse(label: string): string {
  return `Cannot use label ${JSON.stringify(label.length > 300 ? `${label.slice(0, 300)}…` : label)}`;
}

/** What `parse` gives; undefined, and a report, if that is no good. */
function attempt<T>(parse: () => T, label: string, reason: SkipReason, report: Report): T | undefined {
  try {
    return parse();
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) {
      throw cause;
    }
    report({ label, reason, message: `${cannotUse(label)}: ${cause.message}` });
    return undefined;
  }
}
