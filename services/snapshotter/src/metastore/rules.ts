import {
  AlreadyExistsError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
} from "@oci-worker/errdefs";
import { gidMappingLabel, idMappingOf, uidMappingLabel } from "@oci-worker/snapshots/id-mapping";
import { checkLabels, type Labels } from "@oci-worker/snapshots/labels";
import { checkKey, quote } from "./key.ts";
import type { SnapshotRecord } from "./record.ts";

/** A snapshot that is about to be made. */
export interface NewSnapshot {
  readonly key: string;
  readonly kind: "active" | "view";
  readonly parent: string | undefined;
  readonly labels: Labels;
}

/** An active snapshot that is about to be committed. */
export interface NewCommit {
  readonly name: string;
  readonly key: string;
  readonly labels: Labels;
  /** What to put it on, if it has no parent yet. */
  readonly parent: string | undefined;
}

/** What {@link checkCommit} has found. */
export interface CheckedCommit {
  readonly id: number;
  /** The parent that the snapshot shall have. */
  readonly parentID: number | undefined;
  /** Whether that is one that it did not have before. */
  readonly isRebase: boolean;
}

/** Finds a snapshot by its key or name. */
export type Find = (key: string) => SnapshotRecord | undefined;

/**
 * Whether a snapshot can be made.
 *
 * @returns its parent.
 * @throws {NotFoundError} if there is no such parent.
 * @throws {InvalidArgumentError} if the parent is not committed, the key or a label cannot be stored, or only one of the
 * labels that map ids is there.
 * @throws {AlreadyExistsError} if the key is taken.
 */
export function checkNew(find: Find, { kind, key, parent, labels }: NewSnapshot): SnapshotRecord | undefined {
  const what = `${kind === "view" ? "view" : "prepare"} ${quote(key)}`;
  checkKey(what, "key", key);
  checkLabels(labels);
  idMappingOf(labels);
  const beneath = parent === undefined ? undefined : findParent(find, what, parent);
  if (beneath !== undefined && beneath.kind !== "committed") {
    throw new InvalidArgumentError(
      `Cannot ${what}: parent ${quote(beneath.name)} is ${beneath.kind}, want a committed snapshot`,
    );
  }
  if (find(key) !== undefined) {
    throw new AlreadyExistsError(`Cannot ${what}: key ${quote(key)}: already exists`);
  }
  return beneath;
}

/**
 * Whether an active snapshot can be committed. What containerd finds wrong first, this does, because its clients
 * branch on it: no such key, then a name that is taken, then a key of another kind.
 *
 * @throws {NotFoundError} if there is no such key or parent.
 * @throws {AlreadyExistsError} if the name is taken.
 * @throws {FailedPreconditionError} if the key is not active or the parent not committed.
 * @throws {InvalidArgumentError} if it has another parent, or the name or a label cannot be stored.
 */
export function checkCommit(find: Find, { name, key, labels, parent }: NewCommit): CheckedCommit {
  const what = `commit ${quote(key)} as ${quote(name)}`;
  checkKey(what, "name", name);
  checkLabels(labels);
  const active = find(key);
  if (active === undefined) {
    throw new NotFoundError(`Cannot ${what}: key ${quote(key)}: not found`);
  }
  if (find(name) !== undefined) {
    throw new AlreadyExistsError(`Cannot ${what}: name ${quote(name)}: already exists`);
  }
  const { id, kind, parentID } = active;
  if (kind !== "active") {
    throw new FailedPreconditionError(`Cannot ${what}: it is ${kind}, want an active snapshot`);
  }
  if (parent === undefined || parent === active.parent) {
    return { id, parentID, isRebase: false };
  }
  if (active.parent !== undefined) {
    throw new InvalidArgumentError(
      `Cannot ${what}: its parent is ${quote(active.parent)} and cannot become ${quote(parent)}`,
    );
  }
  const beneath = findParent(find, what, parent);
  if (beneath.kind !== "committed") {
    throw new FailedPreconditionError(
      `Cannot ${what}: parent ${quote(parent)} is ${beneath.kind}, want a committed snapshot`,
    );
  }
  return { id, parentID: beneath.id, isRebase: true };
}

/**
 * Whether `record` can have `labels` from now on: what can be mounted is shown with the same ids as long as it lives.
 *
 * @throws {FailedPreconditionError} naming the label that would change that.
 */
export function checkMappingKept(record: SnapshotRecord, labels: Labels): void {
  if (record.kind === "committed") {
    return;
  }
  const changed = [uidMappingLabel, gidMappingLabel].find((each) => record.labels[each] !== labels[each]);
  if (changed !== undefined) {
    throw new FailedPreconditionError(
      `Cannot update ${quote(record.name)}: label ${changed} tells how it is mounted and cannot change, want a new snapshot`,
    );
  }
}

function findParent(find: Find, what: string, parent: string): SnapshotRecord {
  const record = find(parent);
  if (record === undefined) {
    throw new NotFoundError(`Cannot ${what}: parent ${quote(parent)}: not found`);
  }
  return record;
}
