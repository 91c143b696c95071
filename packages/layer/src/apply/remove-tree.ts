import { lstatSync, readdirSync, rmdirSync, unlinkSync } from "node:fs";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { isMountRoot } from "@oci-worker/libc/mount";
import { type ByteString, pathOf, quoted } from "../tar/byte-string.ts";
import { joined } from "./entry-path.ts";
import { codeOf } from "./system-error.ts";

/**
 * Removes `path` and all beneath it; no error if there is nothing.
 *
 * Links are removed, not followed. Nothing behind a mount is touched: a mount that somebody forgot inside a snapshot
 * would else take foreign data with it.
 *
 * @param beforeEach called for every directory; what it throws ends the removal.
 * @throws {FailedPreconditionError} naming the directory that something is mounted on.
 */
export function removeTree(path: ByteString, beforeEach: () => void): void {
  try {
    unlinkSync(pathOf(path));
  } catch (error) {
    switch (codeOf(error)) {
      case "ENOENT":
      case "ENOTDIR":
        return;
      case "EISDIR":
        removeDirectory(path, beforeEach);
        return;
      default:
        throw error;
    }
  }
}

function removeDirectory(path: ByteString, beforeEach: () => void): void {
  for (const name of namesIn(path, beforeEach)) {
    removeTree(joined(path, name), beforeEach);
  }
  rmdirSync(pathOf(path));
}

/** The names in `directory`, which is no link. Empty for the root, the one directory that may be a mount. */
export function namesIn(directory: ByteString, beforeEach: () => void): ByteString[] {
  beforeEach();
  const path = directory === "" ? "/" : pathOf(directory);
  if (directory !== "" && (isMountRoot(path) ?? lstatSync(path).dev !== lstatSync("/").dev)) {
    throw new FailedPreconditionError(
      `Cannot remove what is in ${quoted(directory)}: something is mounted on it`,
    );
  }
  return readdirSync(path, { encoding: "latin1" }) as ByteString[];
}
