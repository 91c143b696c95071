import { readFile } from "node:fs/promises";
import { unmount } from "./mount.ts";

/** One line of /proc/self/mountinfo (proc(5)), what we use of it. */
export interface MountInfo {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Of the file system, as "8:1"; two mounts with the same one show parts of the same file system. */
  readonly device: string;
  /** Which directory of the file system is shown: "/" for all of it, something else for a bind mount. */
  readonly root: string;
  /** Those of the file system itself, such as an overlay's `lowerdir=...`. */
  readonly options: readonly string[];
}

/** Every mount of this process's mount namespace, in the order they were made. */
export async function readMountInfo(): Promise<MountInfo[]> {
  return parseMountInfo(await readFile("/proc/self/mountinfo", "utf8"));
}

/** Reads the format of /proc/self/mountinfo: ten or more fields, a variable number of them before the "-". */
export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    const separator = fields.indexOf("-", 6);
    const [device = "", root = "", mountPoint] = fields.slice(2, 5);
    const [type, source = "", options = ""] = fields.slice(separator + 1);
    if (separator > 0 && mountPoint !== undefined && type !== undefined) {
      mounts.push({
        mountPoint: unescapeOctal(mountPoint),
        type,
        source: unescapeOctal(source),
        device,
        root: unescapeOctal(root),
        options: options.split(",").map(unescapeOctal),
      });
    }
  }
  return mounts;
}

/** The mount points at or beneath `directory`, the last mounted first: the order in which to unmount them. */
export async function mountPointsBeneath(directory: string): Promise<string[]> {
  const mounts = await readMountInfo();
  return mounts
    .map(({ mountPoint }) => mountPoint)
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}

/** What is mounted on exactly `path`, the uppermost if several are; undefined if nothing is. */
export function mountedAt(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  return mounts.findLast(({ mountPoint }) => mountPoint === path);
}

/** Undoes every mount at or beneath `directory`, such as those that a crashed process has left. Returns them. */
export async function unmountBeneath(directory: string): Promise<string[]> {
  const points = await mountPointsBeneath(directory);
  for (const point of points) {
    await unmount(point);
  }
  return points;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
