import { InvalidArgumentError } from "@oci-worker/errdefs";
import { outsideID, parseIDMap } from "./id-map.ts";
import type { IDMapTexts } from "./options.ts";
import { openUserNamespace } from "./user-namespace.ts";

/** Who files belong to. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Ids that all files of a mount are shown with, whereas those on the disk are what they would be without: what root's
 * container writes as the user 100000 of the host is root's on the disk.
 */
export interface OwnerMap extends IDMapTexts {
  /** Descriptor of a user namespace that maps so. */
  readonly userNamespace: number;
  /** Who root's files are shown as belonging to. */
  readonly root: Owner;
}

/**
 * Opens a map for as long as it is not disposed of: the user namespace has no process in it.
 *
 * @throws {InvalidArgumentError} if the maps are none, or have nothing for root.
 * @throws if the kernel allows no user namespaces, or not these ids.
 */
export async function openOwnerMap({ uids, gids }: IDMapTexts): Promise<OwnerMap & Disposable> {
  const root = { uid: rootIn("uids", uids), gid: rootIn("gids", gids) };
  const namespace = await openUserNamespace({ uids, gids });
  return {
    uids,
    gids,
    root,
    userNamespace: namespace.fd,
    [Symbol.dispose]: () => namespace[Symbol.dispose](),
  };
}

function rootIn(name: string, text: string): number {
  const id = outsideID(parseIDMap(name, text), 0);
  if (id === undefined) {
    throw new InvalidArgumentError(
      `Cannot use ${name} ${JSON.stringify(text)}: want a range that begins with 0`,
    );
  }
  return id;
}
