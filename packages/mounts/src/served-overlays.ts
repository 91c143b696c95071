import { readdir, readFile, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type MountInfo, readMountInfo } from "./mountinfo.ts";

/** How mountinfo tells of a mount that the program fuse-overlayfs serves. */
const servedType = "fuse.fuse-overlayfs";

/** What the kernel has of a program's name (proc(5), comm): 15 characters, which is one more than this. */
const programName = "fuse-overlayfs";

/**
 * Every mount of this process's mount namespace, and of those that fuse-overlayfs serves the directories that they are
 * made of: the kernel does not know these, but they are on the command line of the process that serves them.
 *
 * A process in another pid namespace is not seen, nor what it serves.
 */
export async function readMountsAndServed(): Promise<MountInfo[]> {
  const mounts = await readMountInfo();
  const served = new Set(
    mounts.filter(({ type }) => type === servedType).map(({ mountPoint }) => mountPoint),
  );
  if (served.size === 0) {
    return mounts;
  }
  const overlays = (await servedOverlays()).filter(({ mountPoint }) => served.has(mountPoint));
  return [...mounts, ...overlays];
}

async function servedOverlays(): Promise<MountInfo[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const overlays = (await Promise.all(pids.map(commandLineOf))).flatMap((line) => servedBy(line) ?? []);
  return Promise.all(
    overlays.map(async (overlay) => ({ ...overlay, mountPoint: await realMountPoint(overlay.mountPoint) })),
  );
}

/** Where `path` really is, found without asking the file system that is mounted on it: nobody may answer any more. */
async function realMountPoint(path: string): Promise<string> {
  return join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
}

/** Of a process that runs fuse-overlayfs; undefined for any other one, and one that has ended. */
async function commandLineOf(pid: string): Promise<string | undefined> {
  try {
    const name = await readFile(`/proc/${pid}/comm`, "utf8");
    return name === `${programName}\n` ? await readFile(`/proc/${pid}/cmdline`, "utf8") : undefined;
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH")) {
      return undefined;
    }
    throw error;
  }
}

/**
 * What a command line of fuse-overlayfs says that it serves, as a mount of the kernel's overlay would be told:
 * `fuse-overlayfs [SOURCE] TARGET -o OPTIONS`, in any order.
 */
export function servedBy(commandLine: string | undefined): MountInfo | undefined {
  const words = commandLine?.split("\0").slice(1).filter(Boolean) ?? [];
  const options: string[] = [];
  const paths: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? "";
    if (word === "-o") {
      index += 1;
      options.push(...(words[index] ?? "").split(","));
    } else if (word.startsWith("-o")) {
      options.push(...word.slice(2).split(","));
    } else if (!word.startsWith("-")) {
      paths.push(word);
    }
  }
  const mountPoint = paths.at(-1);
  return mountPoint === undefined
    ? undefined
    : { mountPoint, type: "overlay", source: programName, device: "", root: "", options };
}
