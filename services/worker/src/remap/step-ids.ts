import type { Owner, OwnerMap } from "@oci-worker/mounts/owner-map";
import type { ProcessUser } from "../executor/oci-spec.ts";

/** What the ids of steps are on the host. */
export interface StepIDs {
  /** Shows files to steps as theirs; undefined where no id is another one on the host. */
  readonly owners: OwnerMap | undefined;
  /**
   * Who on the host is `owner` of a step.
   *
   * @throws {InvalidArgumentError} if steps have no such ids.
   */
  hostOwner(owner: Owner): Owner;
}

/**
 * Makes sure that steps have all ids of a process.
 *
 * @throws {InvalidArgumentError} naming the one that they have not.
 */
export function requireIDs(ids: Pick<StepIDs, "hostOwner">, { uid, gid, additionalGids }: ProcessUser): void {
  for (const each of [gid, ...additionalGids]) {
    ids.hostOwner({ uid, gid: each });
  }
}

/** The ids of steps are those of the host. */
export const hostIDs: StepIDs = { owners: undefined, hostOwner: (owner) => owner };
