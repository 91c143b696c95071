import { lstatSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** As many symbolic links are followed in one path (path_resolution(7)). */
const maxLinks = 40;

/** Longest name and longest path, its end included, that the kernel takes (linux/limits.h, NAME_MAX and PATH_MAX). */
const maxNameBytes = 255;
const maxPathBytes = 4096;

/** So much of a path that is too long is quoted. */
const maxQuoted = 100;

/** Where a path leads. */
export interface Place {
  /** Its components without links, inside the root. */
  readonly components: readonly string[];
  /** How many of them are there. */
  readonly existing: number;
}

/**
 * Where `path` leads for a process whose root is `root`, as far as it is there and beyond: symbolic links stay inside,
 * also those that lead nowhere yet, as for a runtime that makes mount points.
 *
 * For a tree that nobody changes meanwhile. What has to hold against those who do takes a descriptor (`Rootfs`).
 *
 * @throws {InvalidArgumentError} if links lead in a circle, or the path is longer than any can be.
 */
export function lookUp(root: string, path: string): Place {
  const pending = path.split("/").reverse();
  let components: string[] = [];
  let existing = 0;
  let links = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") {
      continue;
    }
    if (name === "..") {
      components = components.slice(0, -1);
      existing = Math.min(existing, components.length);
      continue;
    }
    const place = join(root, ...components, name);
    if (Buffer.byteLength(name) > maxNameBytes || Buffer.byteLength(place) >= maxPathBytes) {
      throw new InvalidArgumentError(
        `Cannot follow ${path.slice(0, maxQuoted)} in the image: it is too long, want names of at most ${maxNameBytes} bytes`,
      );
    }
    const isThere = existing === components.length;
    const stats = isThere ? entryAt(place) : undefined;
    if (stats?.isSymbolicLink() !== true) {
      components = [...components, name];
      existing += stats === undefined ? 0 : 1;
      continue;
    }
    links += 1;
    if (links > maxLinks) {
      throw new InvalidArgumentError(
        `Cannot follow ${path} in the image: more than ${maxLinks} links lead on`,
      );
    }
    const target = readlinkSync(place);
    if (target.startsWith("/")) {
      components = [];
      existing = 0;
    }
    pending.push(...target.split("/").reverse());
  }
  return { components, existing };
}

/** Undefined also for a path through something that is no directory. */
function entryAt(path: string) {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOTDIR") {
      return undefined;
    }
    throw error;
  }
}
