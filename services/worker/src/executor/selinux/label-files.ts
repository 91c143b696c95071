import { closeSync, constants, openSync, readdirSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { fgetxattr, fsetxattr, lgetxattr, lsetxattr } from "@oci-worker/libc/xattr";
import type { Mount } from "@oci-worker/mounts/mount";
import { codeOf } from "../error-code.ts";
import type { StepLabels } from "./step-labels.ts";

/** Where the kernel keeps the label of a file. */
const attribute = "security.selinux";

/** What is deeper keeps the labels it has: a step can nest directories until descriptors run out. */
const maxDepth = 200;

/**
 * The mounts of a snapshot as a step with `labels` can use it; undefined: as they are.
 *
 * An overlay shows one label for every file, whatever these have on disk (mount(8), `context=`). A bind mount cannot, so
 * the files get one that all steps may use. Upstream labels neither, and leaves it to the policy to know its directories.
 */
export async function labelSnapshot(
  mounts: readonly Mount[],
  labels: StepLabels | undefined,
): Promise<readonly Mount[]> {
  if (labels === undefined) {
    return mounts;
  }
  for (const { type, source } of mounts) {
    if (type === "bind") {
      await labelTree(source, labels.shared);
    }
  }
  return mounts.map((mount) =>
    mount.type === "overlay" ? { ...mount, options: [...mount.options, contextOption(labels.mount)] } : mount,
  );
}

/** The quotation marks are for the commas between categories. */
export function contextOption(label: string): string {
  return `context="${label}"`;
}

/**
 * Labels the file `path`, which nobody but this process may put something else in the place of.
 *
 * @throws the errno of lsetxattr(2).
 */
export function labelFile(path: string, label: string): void {
  lsetxattr(path, attribute, attributeValue(label));
}

/**
 * Labels a directory and all that is in it. A step may be changing it at the same time: no link that it puts in the way is
 * followed, and what has gone meanwhile is passed over.
 */
export async function labelTree(path: string, label: string): Promise<void> {
  await labelDirectory(Buffer.from(path), attributeValue(label), 0);
}

async function labelDirectory(path: Buffer, value: Buffer, depth: number): Promise<void> {
  const fd = openDirectory(path);
  if (fd === undefined) {
    return;
  }
  try {
    set(
      value,
      () => fgetxattr(fd, attribute),
      () => fsetxattr(fd, attribute, value),
    );
    const own = `/proc/self/fd/${fd}/`;
    for (const entry of readdirSync(own, { withFileTypes: true, encoding: "buffer" })) {
      const each = Buffer.concat([Buffer.from(own), entry.name]);
      if (!entry.isDirectory()) {
        set(
          value,
          () => lgetxattr(each, attribute),
          () => lsetxattr(each, attribute, value),
        );
      } else if (depth < maxDepth) {
        await labelDirectory(each, value, depth + 1);
      }
    }
  } finally {
    closeSync(fd);
  }
  // Trees of caches are large, and others are served on this thread.
  await setImmediate();
}

function openDirectory(path: Buffer): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ELOOP"].includes(codeOf(error) ?? "")) {
      return undefined;
    }
    throw error;
  }
}

/** What has gone meanwhile, and a file system that takes no labels and has one of its own, such as one of FUSE. */
const passedOver: ReadonlySet<string | undefined> = new Set([
  "ENOENT",
  "ENODATA",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EROFS",
]);

/** Writes only what is otherwise: a write costs the disk, and most files of a cache have been labelled before. */
function set(value: Buffer, read: () => Buffer, write: () => void): void {
  try {
    if (read().equals(value)) {
      return;
    }
  } catch (error) {
    if (!passedOver.has(codeOf(error))) {
      throw error;
    }
  }
  try {
    write();
  } catch (error) {
    if (!passedOver.has(codeOf(error))) {
      throw error;
    }
  }
}

/** The kernel ends it with a NUL, and so does libselinux. */
function attributeValue(label: string): Buffer {
  return Buffer.from(`${label}\0`);
}
