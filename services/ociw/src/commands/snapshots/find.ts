import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { printable } from "../../output/printable.ts";

/** So many candidates are told of. */
const maxShown = 5;

/** Characters that mean something in a regular expression of Go (RE2). */
const meta = /[\\.+*?()|[\]{}^$]/g;

/**
 * The snapshot that `word` means: the one with that key or name, else the only one whose key begins with it, or whose
 * digest does, with or without `sha256:`.
 *
 * @throws {NotFoundError} if there is none.
 * @throws {InvalidArgumentError} if there are several, naming some.
 */
export async function findSnapshot(
  snapshotter: Snapshotter,
  word: string,
  signal: AbortSignal,
): Promise<Info> {
  if (word === "") {
    throw new UsageError("Cannot find a snapshot: its key is empty");
  }
  try {
    return await snapshotter.stat(word, signal);
  } catch (error) {
    if (!(error instanceof NotFoundError)) {
      throw error;
    }
  }
  const pattern = `(^|sha256:|/)${word.replace(meta, "\\$&")}`;
  const candidates: Info[] = [];
  for await (const info of snapshotter.walk([`name~=${JSON.stringify(pattern)}`], signal)) {
    if (isMeant(info.name, word)) {
      candidates.push(info);
      if (candidates.length > maxShown) {
        break;
      }
    }
  }
  const [first, second] = candidates;
  const shown = JSON.stringify(printable(word));
  if (first === undefined) {
    throw new NotFoundError(
      `Cannot find snapshot ${shown}: there is none whose key begins so, "ociw snapshots ls" lists all`,
    );
  }
  if (second !== undefined) {
    const names = candidates.slice(0, maxShown).map(({ name }) => printable(name));
    const more = candidates.length > maxShown ? " and more" : "";
    throw new InvalidArgumentError(
      `Cannot tell which snapshot ${shown} is: it may be ${names.join(", ")}${more}, want more of its key`,
    );
  }
  return first;
}

/** Whether `word` begins the key, its last part (containerd's keys are `NAMESPACE/NUMBER/KEY`) or its digest. */
function isMeant(name: string, word: string): boolean {
  const last = name.slice(name.lastIndexOf("/") + 1);
  return [name, last, last.replace(/^sha256:/, "")].some((part) => part.startsWith(word));
}
