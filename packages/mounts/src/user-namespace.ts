import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, writeFileSync } from "node:fs";
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
  const child = spawn("unshare", ["-U", "cat"], { stdio: ["pipe", "pipe", "pipe"] });
  const complaints: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk));
  // A child that ends early, which the answer tells better, closes the pipe.
  child.stdin.on("error", () => undefined);
  const ended = once(child, "close");
  ended.catch(() => undefined);
  try {
    // It answers when it is in the namespace.
    child.stdin.write("\n");
    const answered = await Promise.race([
      once(child.stdout, "data").then(() => true),
      ended.then(() => false),
    ]);
    if (!answered) {
      throw new Error(`cannot make a user namespace: ${Buffer.concat(complaints).toString().trim()}`);
    }
    writeFileSync(`/proc/${child.pid}/uid_map`, linesOf("uidmap", uids));
    writeFileSync(`/proc/${child.pid}/gid_map`, linesOf("gidmap", gids));
    const fd = openSync(`/proc/${child.pid}/ns/user`, "r");
    return { fd, [Symbol.dispose]: () => closeSync(fd) };
  } finally {
    child.stdin.end();
    await ended.catch(() => undefined);
  }
}

/** A map in the kernel's notation: one range a line (user_namespaces(7)). */
function linesOf(name: string, map: string): string {
  return parseIDMap(`option ${name}`, map)
    .map(({ inside, outside, size }) => `${inside} ${outside} ${size}\n`)
    .join("");
}
