import { quote } from "../metastore/key.ts";
import type { Examination } from "./examine.ts";
import type { Finding, FindingKind } from "./finding.ts";
import type { RootState, Row } from "./root-state.ts";

type Wording = Omit<Finding, "severity">;

/** What each start closes to others. */
const closedByStart = ["", "snapshots", "spare"];

/** Puts into words what was found out about a root: problems first. */
export function describe(state: RootState, examination: Examination): Finding[] {
  const { problems, leftovers } = new Description(state, examination);
  return [
    ...problems.map((wording) => ({ severity: "problem", ...wording }) as const),
    ...leftovers.map((wording) => ({ severity: "leftover", ...wording }) as const),
  ];
}

class Description {
  readonly problems: Wording[] = [];
  readonly leftovers: Wording[] = [];
  readonly #byID: ReadonlyMap<number, Row>;

  constructor(state: RootState, examination: Examination) {
    this.#byID = new Map(state.rows.map((row) => [row.id, row]));
    this.#describeDatabase(state, examination);
    this.#describeSnapshots(examination);
    this.#describePermissions(examination);
    this.#describeLeftovers(state, examination);
  }

  #describeDatabase({ damage }: RootState, { guessedBackend }: Examination): void {
    for (const text of damage) {
      this.problems.push({
        ...{ kind: "damaged-database", about: "metadata.db", text },
        remedy: "keep a copy in recovered, make a new one of the rows that can be read",
      });
    }
    if (guessedBackend !== undefined) {
      this.problems.push({
        ...{ kind: "unknown-backend", about: "metadata.db" },
        text: "it does not say whose directories these are",
        remedy: `note that they look like ${guessedBackend}`,
      });
    }
  }

  #describeSnapshots({ lost, unlabelled, withoutWork }: Examination): void {
    for (const [id, kind] of lost) {
      const remedy = "remove it, and move what is left of it to recovered";
      this.problems.push({ kind, about: this.#nameOf(id), text: this.#reason(id, kind), remedy });
    }
    for (const id of unlabelled) {
      const text = "its labels are no JSON object of texts";
      this.problems.push({
        ...{ kind: "unreadable-labels", about: this.#nameOf(id), text, remedy: "take its labels away" },
      });
    }
    for (const id of withoutWork) {
      const text = `snapshots/${id}/work is not there`;
      this.problems.push({
        kind: "missing-work-directory",
        about: this.#nameOf(id),
        text,
        remedy: "make it",
      });
    }
  }

  #describePermissions({ open }: Examination): void {
    for (const [path, mode] of open) {
      const list = closedByStart.includes(path) ? this.leftovers : this.problems;
      const text = `its mode is ${mode.toString(8)}, so others than its owner may look into it`;
      list.push({ kind: "open-permissions", about: path || ".", text, remedy: "close it" });
    }
  }

  #describeLeftovers({ damage }: RootState, { orphans, unfinished, misplaced, spares }: Examination): void {
    for (const name of orphans) {
      const text = "no snapshot has it; the next start deletes it";
      this.leftovers.push({
        kind: "orphan",
        about: `snapshots/${name}`,
        text,
        remedy: "move it to recovered",
      });
    }
    for (const name of unfinished) {
      const text = "it was being filled; the next start deletes it";
      this.leftovers.push({ kind: "unfinished", about: `snapshots/${name}`, text, remedy: "delete it" });
    }
    for (const id of misplaced) {
      const text = `it is that of ${this.#nameOf(id)}; the next start moves it`;
      this.leftovers.push({ kind: "misplaced", about: `spare/${id}`, text, remedy: "move it" });
    }
    for (const name of spares) {
      const text = "it was made ahead; the next start deletes it";
      const remedy =
        damage.length > 0 ? "delete it, or move it to recovered if anything is in it" : "delete it";
      this.leftovers.push({ kind: "orphan", about: `spare/${name}`, text, remedy });
    }
  }

  #reason(id: number, kind: FindingKind): string {
    const parentID = this.#byID.get(id)?.parentID;
    const parent = parentID === undefined ? undefined : this.#byID.get(parentID);
    switch (kind) {
      case "missing-directory":
        return `snapshots/${id}/fs is not there`;
      case "lost-ancestor":
        return `${quote(parent?.name ?? "")}, beneath it, cannot be shown`;
      case "broken-parent":
        return parent === undefined
          ? `its parent has the id ${parentID}, which no snapshot has`
          : `its parent ${quote(parent.name)} is ${parent.kind === "committed" ? "its own descendant" : parent.kind}`;
      default:
        return "its row does not make sense";
    }
  }

  #nameOf(id: number): string {
    return quote(this.#byID.get(id)?.name ?? "");
  }
}
