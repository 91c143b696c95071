import { chmod, chown, stat } from "node:fs/promises";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type IDMap, outsideID, parseIDMap } from "@oci-worker/mounts/id-map";
import { type Owner, type OwnerMap, openOwnerMap } from "@oci-worker/mounts/owner-map";
import { closedOnTheWay } from "./reach.ts";
import type { StepIDs } from "./step-ids.ts";

/** Whose subordinate ids steps have on the host, and which these are, as in {@link parseIDMap}. */
export interface RemapPlan {
  readonly user: string;
  readonly uids: string;
  readonly gids: string;
}

/**
 * The user namespace that all remapped steps are in: root in there is a user of no account on the host.
 *
 * One for all, because their networks, which are made ahead of them, must be the namespace's own for a step to have
 * rights over its network. No process is in it but theirs; it ends with the last of them and this worker.
 */
export class UserRemap implements StepIDs, Disposable {
  readonly owners: OwnerMap;
  readonly uids: IDMap;
  readonly gids: IDMap;
  readonly #user: string;
  readonly #dispose: () => void;

  private constructor({ user, uids, gids }: RemapPlan, owners: OwnerMap & Disposable) {
    this.owners = owners;
    this.uids = parseIDMap("uids", uids);
    this.gids = parseIDMap("gids", gids);
    this.#user = user;
    this.#dispose = () => owners[Symbol.dispose]();
  }

  /** @throws if the kernel allows no user namespaces. */
  static async open(plan: RemapPlan): Promise<UserRemap> {
    return new UserRemap(plan, await openOwnerMap(plan));
  }

  [Symbol.dispose](): void {
    this.#dispose();
  }

  /** Where other processes of the host find the user namespace, as long as it is open here. */
  get namespacePath(): string {
    return `/proc/${process.pid}/fd/${this.owners.userNamespace}`;
  }

  hostOwner({ uid, gid }: Owner): Owner {
    return { uid: this.#hostID("user", this.uids, uid), gid: this.#hostID("group", this.gids, gid) };
  }

  /**
   * Lets steps' root pass through `directory`, and those above that were made for it, to what it is shown in there. It cannot
   * list them.
   */
  async admitTo(directory: string): Promise<void> {
    const { root } = this.owners;
    for (const path of await closedOnTheWay(directory, root)) {
      const { uid, mode } = await stat(path);
      await chown(path, uid, root.gid);
      await chmod(path, (mode & 0o707) | 0o010);
    }
  }

  #hostID(what: "user" | "group", map: IDMap, id: number): number {
    const hostID = outsideID(map, id);
    if (hostID === undefined) {
      const ranges = map.map(({ inside, size }) => `${inside} to ${inside + size - 1}`).join(", ");
      throw new InvalidArgumentError(
        `Cannot give ${what} ${id} to a step: steps are remapped to the ids of user ${this.#user}, want one of ${ranges}`,
      );
    }
    return hostID;
  }
}
