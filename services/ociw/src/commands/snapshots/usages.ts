import { NotFoundError } from "@oci-worker/errdefs";
import type { Info, Snapshotter, Usage } from "@oci-worker/snapshots/snapshotter";

/** So many snapshots are measured at a time: of an active one the server walks all files. */
const concurrency = 16;

/** What each of `infos` takes up, by name. One that has gone since is left out. */
export async function usagesOf(
  snapshotter: Snapshotter,
  infos: readonly Info[],
  signal: AbortSignal,
): Promise<Map<string, Usage>> {
  const usages = new Map<string, Usage>();
  const names = infos.values().map(({ name }) => name);
  const measureAll = async () => {
    for (const name of names) {
      try {
        usages.set(name, await snapshotter.usage(name, signal));
      } catch (error) {
        if (!(error instanceof NotFoundError)) {
          throw error;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, measureAll));
  return usages;
}
