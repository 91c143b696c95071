import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { parseReference, type Reference } from "@oci-worker/oci/reference";

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
  | "bad-url";

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
  /** By id; the group without one comes last. */
  readonly candidates: readonly Candidate[];
  readonly skipped: readonly Skipped[];
}

// Names of stargz-snapshotter (fs/source/source.go) and BuildKit (cmd/buildkitd/main_oci_worker.go).
const stargz = "containerd.io/snapshot/remote/stargz";
const referenceLabel = `${stargz}.reference`;
const digestLabel = `${stargz}.digest`;
const layersLabel = `${stargz}.layers`;
const sessionLabel = `${stargz}.session`;
const urlsLabel = "containerd.io/snapshot/remote/urls";
const tocDigestLabel = "containerd.io/snapshot/stargz/toc.digest";

/** Labels that make a group; `urls` is about the group without an id alone. */
const groupLabels = [referenceLabel, digestLabel, layersLabel];

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
 * @throws {InvalidArgumentError} if there are more groups than anybody can mean.
 */
export function parseLabels(labels: Readonly<Record<string, string>>): ParsedLabels {
  const all: Labels = new Map(Object.entries(labels));
  const ids = groupIDs(all);
  if (ids.length > maxGroups) {
    throw new InvalidArgumentError(
      `Cannot read labels: they name ${ids.length} images, want at most ${maxGroups}`,
    );
  }
  const skipped: Skipped[] = [];
  const candidates = ids.flatMap((id) => {
    const candidate = parseGroup(id, all, (skip) => skipped.push({ id, ...skip }));
    return candidate === undefined ? [] : [candidate];
  });
  if (ids.length === 0) {
    skipped.push({ id: "", ...missing(referenceLabel, "no-reference", "no label names an image") });
  }
  return { candidates, skipped };
}

/** Ids in a fixed order: as text, and the group without an id, which names no session, last. */
function groupIDs(labels: Labels): string[] {
  const ids = new Set<string>();
  for (const label of labels.keys()) {
    const id = idOf(label);
    if (id !== undefined) {
      ids.add(id);
    }
  }
  const suffixed = [...ids].filter((id) => id !== "").sort();
  return ids.has("") ? [...suffixed, ""] : suffixed;
}

function idOf(label: string): string | undefined {
  const name = groupLabels.find((each) => label === each || label.startsWith(`${each}.`));
  return name === undefined ? undefined : label.slice(name.length + 1);
}

function parseGroup(id: string, labels: Labels, report: Report): Candidate | undefined {
  const reference = parseReferenceLabel(named(referenceLabel, id), labels, report);
  const digest = parseDigestLabel(named(digestLabel, id), labels, report);
  if (reference === undefined || digest === undefined) {
    return undefined;
  }
  const neighbours = parseLayers(id, labels, report);
  const urls = id === "" ? parseUrls(urlsLabel, labels, report) : [];
  const target = { digest, urls: urls.length > 0 ? urls : (neighbours.get(digest) ?? []) };
  neighbours.delete(digest);
  const tocDigest = parseTocDigest(named(tocDigestLabel, id), labels, report);
  return {
    id,
    reference,
    target,
    layers: [target, ...[...neighbours].map(([each, places]) => ({ digest: each, urls: places }))],
    ...(tocDigest && { tocDigest }),
    sessionIDs: sessionIDs(id, labels),
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

/** BuildKit sets the label to an empty text where it knows no digest. */
function parseTocDigest(label: string, labels: Labels, report: Report): Digest | undefined {
  const text = labels.get(label) ?? "";
  return text === "" ? undefined : attempt(() => parseDigest(text), label, "bad-toc-digest", report);
}

/** The other places of each layer of the image, in the order of the label. */
function parseLayers(id: string, labels: Labels, report: Report): Map<Digest, readonly string[]> {
  const label = named(layersLabel, id);
  const layers = new Map<Digest, readonly string[]>();
  for (const [index, text] of split(labels.get(label)).entries()) {
    const digest = attempt(() => parseDigest(text), label, "bad-layers", report);
    if (digest !== undefined && !layers.has(digest)) {
      layers.set(digest, id === "" ? parseUrls(`${urlsLabel}.${index}`, labels, report) : []);
    }
  }
  return layers;
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
function sessionIDs(id: string, labels: Labels): string[] {
  const ids: string[] = [];
  while (ids.length < maxSessions) {
    const sessionID = labels.get(named(`${sessionLabel}.${ids.length}`, id));
    if (sessionID === undefined || sessionID === "") {
      break;
    }
    ids.push(sessionID);
  }
  return ids;
}

function named(label: string, id: string): string {
  return id === "" ? label : `${label}.${id}`;
}

function split(list: string | undefined): string[] {
  return (list ?? "").split(",").filter((entry) => entry !== "");
}

function missing(label: string, reason: SkipReason, what: string): Omit<Skipped, "id"> {
  return { label, reason, message: `Cannot use label ${JSON.stringify(label)}: ${what}` };
}

/** What `parse` gives; undefined, and a report, if that is no good. */
function attempt<T>(parse: () => T, label: string, reason: SkipReason, report: Report): T | undefined {
  try {
    return parse();
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) {
      throw cause;
    }
    report({ label, reason, message: `Cannot use label ${JSON.stringify(label)}: ${cause.message}` });
    return undefined;
  }
}
