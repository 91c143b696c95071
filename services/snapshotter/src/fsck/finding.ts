/**
 * - `problem`: the next start would not mend it by itself, or would lose something by it.
 * - `leftover`: what a crash or a stop leaves in the normal course of things; the next start puts it in order.
 */
export type Severity = "problem" | "leftover";

export type FindingKind =
  /** SQLite finds the file damaged, or it is not there though directories are. */
  | "damaged-database"
  /** A snapshot of a kind that there is not, or the like. */
  | "unreadable-row"
  /** Labels that are no JSON object of texts. */
  | "unreadable-labels"
  /** Nothing says which backend the directories belong to. */
  | "unknown-backend"
  /** A snapshot whose content is not there. */
  | "missing-directory"
  /** An active snapshot of overlayfs that could not be mounted for want of its work directory. */
  | "missing-work-directory"
  /** A parent that does not exist, is not committed, or stands on its own child. */
  | "broken-parent"
  /** A snapshot that stands on one with any of the faults above. */
  | "lost-ancestor"
  /** Others than root may look into a directory, or read the database. */
  | "open-permissions"
  /** A directory that no snapshot has. */
  | "orphan"
  /** A directory that was being filled. */
  | "unfinished"
  /** The directory of a snapshot, where it was made ahead. */
  | "misplaced";

/** Something in a root that is not as it should be. */
export interface Finding {
  readonly severity: Severity;
  readonly kind: FindingKind;
  /** A path relative to the root, or the name of a snapshot. */
  readonly about: string;
  /** What is wrong, for a person. */
  readonly text: string;
  /** What `--repair` makes of it, for a person. */
  readonly remedy: string;
}
