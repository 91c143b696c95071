import { mkdir, rm } from "node:fs/promises";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";

/** What an overlay is mounted from in a probe, and where. */
export interface ProbeDirectory extends AsyncDisposable {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
}

/**
 * Makes the directory `path` and four empty ones in it. Disposing unmounts and removes all, and so does the next probe
 * after one that was killed.
 */
export async function makeProbeDirectory(path: string): Promise<ProbeDirectory> {
  await using undo = new AsyncDisposableStack();
  await clear(path);
  undo.defer(() => clear(path));
  await mkdir(path, { mode: 0o700 });
  const directory = {
    lower: `${path}/lower`,
    upper: `${path}/upper`,
    work: `${path}/work`,
    merged: `${path}/merged`,
  };
  for (const each of Object.values(directory)) {
    await mkdir(each);
  }
  const owned = undo.move();
  return { ...directory, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function clear(path: string): Promise<void> {
  await unmountBeneath(path);
  await rm(path, { recursive: true, force: true });
}
