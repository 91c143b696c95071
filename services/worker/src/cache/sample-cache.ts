import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NotFoundError } from "@oci-worker/errdefs";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import { ResultCache } from "../solver/result-cache.ts";
import { openCacheDatabase } from "./database.ts";
import type { NewRecord } from "./record.ts";
import { RecordTable } from "./record-table.ts";
import { CacheRecords } from "./records.ts";

/** For tests: records and results on a real database, over snapshots that are only names. */
export async function sampleCache() {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "cache-")));
  const path = join(directory.path, "cache.db");
  const snapshots = new Map<string, Info>();
  const stat = (name: string) => {
    const info = snapshots.get(name);
    return info === undefined
      ? Promise.reject(new NotFoundError(`${name}: not found`))
      : Promise.resolve(info);
  };
  const failing = (error: unknown) => {
    throw error;
  };
  const open = (onUnwritten: (error: unknown) => void = failing) => {
    using opening = new DisposableStack();
    const database = openCacheDatabase(path);
    opening.defer(() => database.close());
    const records = opening.use(new CacheRecords(new RecordTable(database), onUnwritten));
    const results = new ResultCache(database, records, { stat });
    const owned = opening.move();
    return { records, results, database, [Symbol.dispose]: () => owned.dispose() };
  };
  const owned = undo.move();
  return { path, snapshots, open, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A record of a test, of a step's result unless something else is said. */
export function sampleRecord(id: string, more: Partial<NewRecord> = {}): NewRecord {
  return { id, parents: [], type: "regular", description: `made ${id}`, mutable: false, blobs: [], ...more };
}

export function sampleInfo(name: string, more: Partial<Info> = {}): Info {
  const times = { createdAtNs: 1_000_000_000n, updatedAtNs: 1_000_000_000n };
  return { name, parent: undefined, kind: "committed", labels: {}, ...times, ...more };
}
