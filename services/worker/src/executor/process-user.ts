import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import type { ProcessUser } from "./oci-spec.ts";
import type { Rootfs } from "./rootfs.ts";

/** A user or group database larger than this is an attack, not a file (CVE-2026-47262). */
const maxDatabaseBytes = 10 * 1024 * 1024;

/** uid_t is 32 bit, but the kernel's and runc's tools read ids as signed (CVE-2024-40635). */
const maxId = 2 ** 31 - 1;

/** A line of /etc/passwd (passwd(5)), what we use of it. */
interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** A line of /etc/group (group(5)). */
interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * Who a step runs as: `user`, `user:group`, `uid` or `uid:gid`, names looked up in the image's own databases.
 *
 * Nothing given is root, whatever the image's databases hold; a group alone is one of root's, and an empty group none. Two
 * numbers need no database, nor does the name root in the place of one of them, as for upstream. The primary group is
 * always among the additional ones, first (CVE-2023-25173).
 *
 * @throws {NotFoundError} if a name is in neither database.
 * @throws {InvalidArgumentError} if a number is none that a user may have.
 */
export function processUser(wanted: string, rootfs: Rootfs): ProcessUser {
  const [userPart = "", groupPart = "", ...rest] = wanted.split(":");
  if (rest.length > 0) {
    throw new InvalidArgumentError(`Cannot run as user ${JSON.stringify(wanted)}: want USER or USER:GROUP`);
  }
  if (userPart === "" && groupPart === "") {
    return { uid: 0, gid: 0, additionalGids: [0] };
  }
  const gid = numericId(groupPart);
  const known = gid ?? (groupPart === "root" ? 0 : undefined);
  const uid = userPart === "" ? 0 : numericId(userPart);
  if (known !== undefined && (uid !== undefined || userPart === "root")) {
    return { uid: uid ?? 0, gid: known, additionalGids: [known] };
  }
  const user = findUser(userPart, uid, passwdOf(rootfs));
  const groups = groupsOf(rootfs);
  if (groupPart !== "") {
    const group = gid ?? findGroup(groupPart, groups);
    return { uid: user.uid, gid: group, additionalGids: [group] };
  }
  const memberships = groups.filter(({ members }) => members.includes(user.name)).map((group) => group.gid);
  memberships.forEach(requireId);
  return { uid: user.uid, gid: user.gid, additionalGids: [...new Set([user.gid, ...memberships])] };
}

function findUser(part: string, uid: number | undefined, entries: readonly PasswdEntry[]): PasswdEntry {
  const named = entries.find(({ name }) => part !== "" && name === part);
  const found = named ?? entries.find((entry) => entry.uid === uid);
  if (found !== undefined) {
    // The image's word is no better than the client's: 4294967295 is "no change" to the kernel, and that is root.
    requireId(found.uid);
    requireId(found.gid);
    return found;
  }
  if (uid !== undefined) {
    return { name: part, uid, gid: 0 };
  }
  throw new NotFoundError(`unable to find user ${part}: no matching entries in passwd file`);
}

function findGroup(name: string, entries: readonly GroupEntry[]): number {
  const found = entries.find((entry) => entry.name === name);
  if (found === undefined) {
    throw new NotFoundError(`unable to find group ${name}: no matching entries in group file`);
  }
  requireId(found.gid);
  return found.gid;
}

/** `text` as an id, or undefined if it is a name. */
function numericId(text: string): number | undefined {
  if (!/^-?\d+$/.test(text)) {
    return undefined;
  }
  const id = Number(text);
  requireId(id);
  return id;
}

function requireId(id: number): void {
  if (id < 0 || id > maxId) {
    throw new InvalidArgumentError(`Cannot run as id ${id}: want 0 to ${maxId}`);
  }
}

function passwdOf(rootfs: Rootfs): PasswdEntry[] {
  return linesOf(rootfs, "/etc/passwd").flatMap(([name = "", _password, uid = "", gid = ""]) =>
    /^\d+$/.test(uid) && /^\d+$/.test(gid) ? [{ name, uid: Number(uid), gid: Number(gid) }] : [],
  );
}

function groupsOf(rootfs: Rootfs): GroupEntry[] {
  return linesOf(rootfs, "/etc/group").flatMap(([name = "", _password, gid = "", members = ""]) =>
    /^\d+$/.test(gid) ? [{ name, gid: Number(gid), members: members.split(",") }] : [],
  );
}

/** The fields of a colon-separated database; a missing file has none. */
function linesOf(rootfs: Rootfs, path: string): string[][] {
  const content = rootfs.readFile(path, maxDatabaseBytes)?.toString("utf8") ?? "";
  return content.split("\n").map((line) => line.trim().split(":"));
}
