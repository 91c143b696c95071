/** The names of the labels that belong together: they say where one image has the layer which a snapshot is for. */
export interface LabelGroup {
  /** Tells the groups of BuildKit apart; empty for labels without one. */
  readonly id: string;
  readonly reference: string;
  readonly digest: string;
  readonly layers: string;
  readonly tocDigest: string;
  /** What the names of its sessions' labels start and end with; the number stands between. Absent: it has none. */
  readonly session?: { readonly start: string; readonly end: string };
}

// Names of stargz-snapshotter (fs/source/source.go) and BuildKit (cmd/buildkitd/main_oci_worker.go).
const stargz = "containerd.io/snapshot/remote/stargz.";
const tocDigestLabel = "containerd.io/snapshot/stargz/toc.digest";

/** Other places of the layer that a snapshot is for; with `.<index>`, of a layer in the list of neighbours. */
export const urlsLabel = "containerd.io/snapshot/remote/urls";

// Names of containerd's unpacker and its CRI plugin (pkg/snapshotters/annotations.go).
const cri = "containerd.io/snapshot/cri.";

/** The labels without an id, as stargz-snapshotter's clients set them. */
export const plainGroup: LabelGroup = namedGroup("");

/** The labels that containerd itself sets. They name no session, and the manifest's digest is of no use to us. */
export const criGroup: LabelGroup = {
  id: "",
  reference: `${cri}image-ref`,
  digest: `${cri}layer-digest`,
  layers: `${cri}image-layers`,
  tocDigest: tocDigestLabel,
};

/** Whether a label says something of where a layer is, alone or together with others. */
export function isAboutSources(label: string): boolean {
  const isUrl = label === urlsLabel || label.startsWith(`${urlsLabel}.`);
  const isToc = label === tocDigestLabel || label.startsWith(`${tocDigestLabel}.`);
  return isUrl || isToc || label.startsWith(stargz) || label.startsWith(cri);
}

/**
 * The groups among these labels, in a fixed order: those with an id in the order of these as text, then that without
 * one, then containerd's own. The order of the labels themselves means nothing: Go sends them at random.
 */
export function labelGroups(labels: Iterable<string>): LabelGroup[] {
  const all = new Set(labels);
  const ids = new Set([...all].map(idOf).filter((id) => id !== undefined));
  const others = [plainGroup, criGroup].filter(({ reference, digest, layers }) =>
    [reference, digest, layers].some((label) => all.has(label)),
  );
  return [...[...ids].sort().map(namedGroup), ...others];
}

/** The id at the end of a label, if it is one that makes a group. */
function idOf(label: string): string | undefined {
  const { reference, digest, layers } = plainGroup;
  const name = [reference, digest, layers].find((each) => label.startsWith(`${each}.`));
  return name === undefined ? undefined : label.slice(name.length + 1) || undefined;
}

function namedGroup(id: string): LabelGroup {
  const end = id === "" ? "" : `.${id}`;
  return {
    id,
    reference: `${stargz}reference${end}`,
    digest: `${stargz}digest${end}`,
    layers: `${stargz}layers${end}`,
    tocDigest: `${tocDigestLabel}${end}`,
    session: { start: `${stargz}session.`, end },
  };
}
