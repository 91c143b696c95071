import { execFile } from "node:child_process";
import { closeSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { mapIDs, openTreeClone } from "@oci-worker/libc/mount";
import { isInUserNamespace } from "@oci-worker/libc/user-namespace";
import type { Config } from "../config/config.ts";
import { readOrEmpty } from "../read-or-empty.ts";
import { closedOnTheWay, nearestExisting } from "./reach.ts";
import { type SubordinateOwner, subordinateIDs } from "./subordinate-ids.ts";
import { type RemapPlan, UserRemap } from "./user-remap.ts";

const run = promisify(execFile);

/** A name service that does not answer. */
const lookupTimeoutMs = 30_000;

/**
 * Opens what the operator wants steps to be remapped to, after a look at whether this machine can: nothing is made.
 *
 * @returns undefined if they do not want it.
 * @throws {NotFoundError} if there is no such user or group.
 * @throws {FailedPreconditionError} if they have no ids, or the machine cannot remap them, with the reason.
 */
export async function openUserRemap({
  remapUser,
  root,
}: Pick<Config, "remapUser" | "root">): Promise<UserRemap | undefined> {
  if (remapUser === undefined) {
    return undefined;
  }
  const user = await subordinateOwner(remapUser.user);
  if (remapUser.group !== undefined) {
    await look("group", remapUser.group);
  }
  const refuse = (why: string, cause?: unknown) =>
    new FailedPreconditionError(`Cannot remap steps to user ${user.name}: ${why}`, { cause });
  if (isInUserNamespace()) {
    throw refuse(
      "the worker is rootless, in a user namespace itself, want worker.oci.userRemapUnsupported left out",
    );
  }
  const plan = {
    user: user.name,
    uids: subordinateIDs("/etc/subuid", await readOrEmpty("/etc/subuid"), user),
    gids: subordinateIDs("/etc/subgid", await readOrEmpty("/etc/subgid"), user),
  };
  await using undo = new AsyncDisposableStack();
  const remap = undo.use(await openOrRefuse(plan, refuse));
  await requireMappedMounts(root, remap, refuse);
  const [closed] = await closedOnTheWay(dirname(root), remap.owners.root);
  if (closed !== undefined) {
    const { uid, gid } = remap.owners.root;
    throw refuse(
      `their root, ${uid}:${gid} on the host, may not pass through ${closed} to ${root}, want chmod o+x ${closed}`,
    );
  }
  undo.move();
  return remap;
}

async function openOrRefuse(
  plan: RemapPlan,
  refuse: (why: string, cause: unknown) => Error,
): Promise<UserRemap> {
  try {
    return await UserRemap.open(plan);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw refuse(`${why}, want a kernel with user namespaces that this process may make`, cause);
  }
}

/** Tries it out on the file system that the root is, or will be, on, with a mount that is never attached. */
async function requireMappedMounts(
  root: string,
  { owners }: UserRemap,
  refuse: (why: string, cause: unknown) => Error,
): Promise<void> {
  const place = await nearestExisting(root);
  try {
    const clone = openTreeClone(place, false);
    try {
      mapIDs(clone, owners.userNamespace, false);
    } finally {
      closeSync(clone);
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw refuse(
      `the ids of ${place} cannot be mapped: ${why}, want Linux 5.19 and a file system such as ext4, xfs or btrfs`,
      cause,
    );
  }
}

/** As upstream, subordinate group ids are looked up by user as well (subgid(5)). */
async function subordinateOwner(wanted: string): Promise<SubordinateOwner> {
  const [name = "", , uid = ""] = await look("passwd", wanted);
  return { name, uid: Number(uid) };
}

/** The fields of an entry, by name or by number, of a database of this machine, wherever that is kept (nsswitch.conf(5)). */
async function look(database: "passwd" | "group", key: string): Promise<string[]> {
  try {
    const { stdout } = await run("getent", [database, key], { timeout: lookupTimeoutMs });
    return stdout.trim().split(":");
  } catch (cause) {
    const what = database === "passwd" ? "user" : "group";
    throw new NotFoundError(
      `Cannot remap steps by worker.oci.userRemapUnsupported: there is no ${what} ${JSON.stringify(key)} on this machine, want one that \`getent ${database}\` knows`,
      { cause },
    );
  }
}
