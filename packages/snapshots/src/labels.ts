import { InvalidArgumentError } from "@oci-worker/errdefs";
import { checkIDMappingLabel } from "./id-mapping.ts";

/** Names of labels and their values. An empty value is the same as no label. */
export type Labels = Readonly<Record<string, string>>;

/**
 * Says which layer a snapshot is being prepared for: a snapshotter that can have it without an unpack puts it into
 * place and answers AlreadyExists. The value is the name, usually a chain ID, that the client will look for.
 */
export const snapshotRefLabel = "containerd.io/snapshot.ref";

/** A change of labels, which touches nothing else of a snapshot. */
export type LabelChange =
  /** These labels and no others. */
  | { readonly replace: Labels }
  /** These labels in addition to or in place of those that are there; an empty value deletes one. */
  | { readonly merge: Labels };

/**
 * The largest label, key and value together. containerd's own stores take 4096 bytes of its clients; what is behind
 * such a store, as a snapshotter is, has to take what it is given, within reason.
 */
const maxLabelBytes = 64 * 1024;

/** All labels of one snapshot together, so that a hundred of them are read back in few messages. */
const maxLabelsBytes = 256 * 1024;

/**
 * The labels of `labels` that are stored: those that have a value.
 *
 * @throws {InvalidArgumentError} naming the label that is over 64 KiB or maps ids and is no map, or if all together are
 * over 256 KiB.
 */
export function checkLabels(labels: Labels): Labels {
  const stored: [string, string][] = [];
  let totalBytes = 0;
  for (const [key, value] of Object.entries(labels)) {
    if (value === "") {
      continue;
    }
    const bytes = Buffer.byteLength(key) + Buffer.byteLength(value);
    if (bytes > maxLabelBytes) {
      throw new InvalidArgumentError(
        `Cannot store label ${JSON.stringify(key.slice(0, 100))}: it has ${bytes} bytes, want at most ${maxLabelBytes}`,
      );
    }
    checkIDMappingLabel(key, value);
    totalBytes += bytes;
    stored.push([key, value]);
  }
  if (totalBytes > maxLabelsBytes) {
    throw new InvalidArgumentError(
      `Cannot store labels: together they have ${totalBytes} bytes, want at most ${maxLabelsBytes} for one snapshot`,
    );
  }
  return Object.fromEntries(stored);
}

/**
 * The labels of a snapshot after `change`.
 *
 * @throws {InvalidArgumentError} as {@link checkLabels} does.
 */
export function changeLabels(current: Labels, change: LabelChange): Labels {
  return checkLabels("replace" in change ? change.replace : { ...current, ...change.merge });
}

const labelPath = "labels.";

/**
 * What an Update request with `labels` and the paths of its field mask asks for.
 *
 * `labels` replaces all of them, `labels.KEY` sets the one label KEY or deletes it when it is empty or absent in
 * `labels`. KEY is everything after the first dot, dots and slashes included. No path is the same as `labels`.
 *
 * @throws {InvalidArgumentError} for any other path, because nothing but labels can change.
 */
export function labelChangeOf(labels: Labels, paths: readonly string[]): LabelChange {
  const merge: [string, string][] = [];
  let replaces = paths.length === 0;
  for (const path of paths) {
    if (path === "labels") {
      replaces = true;
    } else if (path.startsWith(labelPath)) {
      const key = path.slice(labelPath.length);
      merge.push([key, Object.hasOwn(labels, key) ? (labels[key] ?? "") : ""]);
    } else {
      throw new InvalidArgumentError(
        `Cannot update field ${JSON.stringify(path.slice(0, 100))}: only labels can change, want "labels" or "labels.KEY"`,
      );
    }
  }
  return replaces ? { replace: labels } : { merge: Object.fromEntries(merge) };
}

/** The field mask that says `change` in an Update request: what {@link labelChangeOf} reads. */
export function updatePathsOf(change: LabelChange): string[] {
  return "replace" in change ? ["labels"] : Object.keys(change.merge).map((key) => `${labelPath}${key}`);
}
