import type { Owner, OwnerMap } from "@oci-worker/mounts/owner-map";

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

/** The ids of steps are those of the host. */
export const hostIDs: StepIDs = { owners: undefined, hostOwner: (owner) => owner };
