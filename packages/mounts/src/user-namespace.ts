import { closeSync, openSync, writeFileSync } from "node:fs";
import { whileInNamespace } from "./child-in-namespace.ts";
import { parseIDMap } from "./id-map.ts";
import type { IDMapTexts } from "./options.ts";

/** A user namespace held open by a descriptor. Disposing lets go of it. */
export interface UserNamespace extends Disposable {
  readonly fd: number;
}

/**
 * Makes a user namespace that maps ids as `idMap` says.
 *
 * A process with threads, as Node's always is, cannot enter a new one itself (unshare(2), EINVAL). So a child does, and
 * lives until the namespace is held by the descriptor. `unshare` is part of util-linux, and of busybox.
 *
 * @throws if the kernel allows no user namespaces, or not these ids.
 */
export async function openUserNamespace({ uids, gids }: IDMapTexts): Promise<UserNamespace> {
  const [uidLines, gidLines] = [linesOf("uidmap", uids), linesOf("gidmap", gids)];
  try {
    return await whileInNamespace(["unshare", "-U"], (pid) => {
      writeFileSync(`/proc/${pid}/uid_map`, uidLines);
      writeFileSync(`/proc/${pid}/gid_map`, gidLines);
      const fd = openSync(`/proc/${pid}/ns/user`, "r");
      return { fd, [Symbol.dispose]: () => closeSync(fd) };
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot make a user namespace: ${why}`, { cause });
  }
}

/** A map in the kernel's notation: one range a line (user_namespaces(7)). */
function linesOf(name: string, map: string): string {
  return parseIDMap(`option ${name}`, map)
    .map(({ inside, outside, size }) => `${inside} ${outside} ${size}\n`)
    .join("");
}
