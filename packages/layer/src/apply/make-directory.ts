import { chmodSync, mkdirSync, readlinkSync, statSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, pathOf, quoted } from "../tar/byte-string.ts";
import { joined, parentOf } from "./entry-path.ts";
import { codeOf } from "./system-error.ts";

/** How many links the kernel follows in one path (path_resolution(7)). */
const maxLinks = 40;

/** The mode of a directory that no entry describes, as in containerd. */
const impliedMode = 0o755;

/**
 * Makes `path` a directory, and what is missing above it too. Empty for the root, which is one.
 *
 * A link whose target is missing gets it, inside the root: `var/run` may point at a `/run` that comes later, and an
 * entry `var/run/lock` means a directory there.
 *
 * @throws {InvalidArgumentError} if something that is no directory is in the way.
 */
export function makeDirectory(path: ByteString, linksLeft = maxLinks): void {
  if (path === "") {
    return;
  }
  let failure = tryMake(path);
  if (codeOf(failure) === "ENOENT") {
    makeDirectory(parentOf(path), linksLeft);
    failure = tryMake(path);
  }
  if (codeOf(failure) === "EEXIST") {
    makeTargetDirectory(path, linksLeft);
  } else if (failure !== undefined) {
    throw failure;
  }
}

/** @returns the error of mkdir(2), undefined if there is none. */
function tryMake(path: ByteString): Error | undefined {
  try {
    mkdirSync(pathOf(path), impliedMode);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  // The process's umask does not decide what is in an image.
  chmodSync(pathOf(path), impliedMode);
  return undefined;
}

/** `path` exists: as a directory, as a link to one, as a link to nothing, or as something else. */
function makeTargetDirectory(path: ByteString, linksLeft: number): void {
  const found = statSync(pathOf(path), { throwIfNoEntry: false });
  if (found?.isDirectory()) {
    return;
  }
  if (found !== undefined || linksLeft === 0) {
    throw new InvalidArgumentError(
      `Cannot make directory ${quoted(path)}: something else is there, want a directory or nothing`,
    );
  }
  const target = readlinkSync(pathOf(path), { encoding: "latin1" }) as ByteString;
  makeDirectory(target.startsWith("/") ? target : joined(parentOf(path), target), linksLeft - 1);
}
