import type { WarnRequest } from "@oci-worker/api/buildkit/llb-bridge";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseDigest } from "@oci-worker/oci/digest";
import type { Warning } from "../solver/progress.ts";

/** A larger one is no message for people. The file that a warning is about comes with it, so there is room for that. */
const maxBytes = 1024 * 1024;

/** @throws {InvalidArgumentError} if it names no vertex, or is too large. */
export function warningOf({ digest, level, short, detail, url, info, ranges }: WarnRequest): Warning {
  const pieces = [short, ...detail, info?.data ?? new Uint8Array()];
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (bytes > maxBytes) {
    throw new InvalidArgumentError(`Cannot show a warning of ${bytes} bytes: want at most ${maxBytes}`);
  }
  return { vertex: parseDigest(digest), level: Number(level), short, detail, url, source: info, ranges };
}
