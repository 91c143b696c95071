import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Owner } from "@oci-worker/mounts/owner-map";

/** The x of the owner, the group and all others of a directory: whether they may pass through it. */
const [ownerMay, groupMay, othersMay] = [0o100, 0o010, 0o001];

/** Whether `who`, who has no privilege on the host, may pass through a directory. */
function isSearchable({ mode, uid, gid }: Pick<Stats, "mode" | "uid" | "gid">, who: Owner): boolean {
  const wanted = uid === who.uid ? ownerMay : gid === who.gid ? groupMay : othersMay;
  return (mode & wanted) !== 0;
}

/** Of `path` and the directories above it those that are there and that `who` may not pass through, the uppermost first. */
export async function closedOnTheWay(path: string, who: Owner): Promise<string[]> {
  const parent = dirname(path);
  const above = parent === path ? [] : await closedOnTheWay(parent, who);
  const stats = await stat(path).catch(() => undefined);
  return stats === undefined || isSearchable(stats, who) ? above : [...above, path];
}

/** The nearest of `path` and the directories above it that is there. */
export async function nearestExisting(path: string): Promise<string> {
  return (await stat(path).catch(() => undefined)) === undefined
    ? await nearestExisting(dirname(path))
    : path;
}
