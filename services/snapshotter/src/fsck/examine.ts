import type { FindingKind } from "./finding.ts";
import type { RootState, Row } from "./root-state.ts";

/** What was found out about a root. */
export interface Examination {
  /** Snapshots that cannot be shown any more, with what is wrong with each. */
  readonly lost: ReadonlyMap<number, FindingKind>;
  /** Ids of snapshots whose labels cannot be read. */
  readonly unlabelled: readonly number[];
  /** Ids of active snapshots of overlayfs that have no work directory. */
  readonly withoutWork: readonly number[];
  /** Which backend the directories look like, if nothing says so. */
  readonly guessedBackend: string | undefined;
  /** Names in `snapshots` that no snapshot has, save those that were being filled. */
  readonly orphans: readonly string[];
  readonly unfinished: readonly string[];
  /** What others than its owner may look into, relative to the root, with its permissions. */
  readonly open: ReadonlyMap<string, number>;
  /** Names in `spare` that no snapshot has. */
  readonly spares: readonly string[];
  /** Ids of snapshots whose directory is still among the spare ones. */
  readonly misplaced: readonly number[];
}

/** Judges what was read of a root. Reads nothing itself. */
export function examine(state: RootState): Examination {
  const { rows, facts, directories } = state;
  const byID = new Map(rows.map((row) => [row.id, row]));
  const names = [...directories.keys()];
  const unowned = names.filter((name) => !(byID.has(Number(name)) && name === String(Number(name))));
  const unownedPaths = new Set(unowned.map((name) => `snapshots/${name}`));
  const isOverlay = (facts.get("backend") ?? "").includes("overlayfs");
  return {
    lost: lostSnapshots(state),
    unlabelled: rows.filter(({ labels }) => !areLabels(labels)).map(({ id }) => id),
    withoutWork: rows
      .filter(
        ({ id, kind }) => isOverlay && kind === "active" && has(state, id, "fs") && !has(state, id, "work"),
      )
      .map(({ id }) => id),
    guessedBackend: rows.length > 0 && !facts.has("backend") ? guessBackend(state) : undefined,
    unfinished: unowned.filter((name) => name.startsWith("new-")),
    orphans: unowned.filter((name) => !name.startsWith("new-")),
    spares: state.spares.filter((name) => !isMisplaced(state, Number(name)) || !byID.has(Number(name))),
    open: new Map([...state.open].filter(([path]) => !unownedPaths.has(path))),
    misplaced: rows.filter(({ id }) => isMisplaced(state, id)).map(({ id }) => id),
  };
}

/** Snapshots that cannot be shown: without their content, without their parent, or on top of such a one. */
function lostSnapshots(state: RootState): Map<number, FindingKind> {
  const byID = new Map(state.rows.map((row) => [row.id, row]));
  const verdicts = new Map<number, FindingKind | undefined>();
  for (const row of state.rows) {
    // Down to one that is known or at fault, then up again: chains are long, and may go round.
    const way: Row[] = [];
    for (let at: Row | undefined = row; at !== undefined && !verdicts.has(at.id); ) {
      verdicts.set(at.id, ownFault(state, at, byID, new Set(way.map(({ id }) => id))));
      way.push(at);
      at = at.parentID === undefined ? undefined : byID.get(at.parentID);
    }
    for (const each of way.reverse()) {
      const parentVerdict = each.parentID === undefined ? undefined : verdicts.get(each.parentID);
      if (verdicts.get(each.id) === undefined && parentVerdict !== undefined) {
        verdicts.set(each.id, "lost-ancestor");
      }
    }
  }
  return new Map([...verdicts].flatMap(([id, kind]) => (kind === undefined ? [] : [[id, kind] as const])));
}

/** What is wrong with a snapshot by itself. @param above ids of those that were met on the way to it. */
function ownFault(
  state: RootState,
  row: Row,
  byID: ReadonlyMap<number, Row>,
  above: ReadonlySet<number>,
): FindingKind | undefined {
  const { id, kind, parentID } = row;
  if (!isStorable(row)) {
    return "unreadable-row";
  }
  const isOwn = kind !== "view" || parentID === undefined;
  if (isOwn && !has(state, id, "fs") && !isMisplaced(state, id)) {
    return "missing-directory";
  }
  if (parentID === undefined) {
    return undefined;
  }
  const isRound = parentID === id || above.has(parentID);
  return isRound || byID.get(parentID)?.kind !== "committed" ? "broken-parent" : undefined;
}

/** Whether the table would take the row. */
function isStorable({ name, kind, sizeBytes, inodes }: Row): boolean {
  const isMeasured = sizeBytes !== null && inodes !== null;
  const isKnown = kind === "active" || kind === "view" || kind === "committed";
  return name !== "" && isKnown && isMeasured === (kind === "committed");
}

function has({ directories }: RootState, id: number, name: "fs" | "work"): boolean {
  return directories.get(String(id))?.includes(name) === true;
}

/** A power cut can undo the move of a directory that was made ahead. */
function isMisplaced({ directories, spares }: RootState, id: number): boolean {
  return spares.includes(String(id)) && !directories.has(String(id));
}

/** Only overlayfs has work directories; they stay after a commit. */
function guessBackend({ directories }: RootState): string {
  return [...directories.values()].some((names) => names.includes("work")) ? "overlayfs" : "native";
}

function areLabels(text: string): boolean {
  try {
    const labels: unknown = JSON.parse(text);
    const isObject = typeof labels === "object" && labels !== null && !Array.isArray(labels);
    return isObject && Object.values(labels).every((value) => typeof value === "string");
  } catch {
    return false;
  }
}
