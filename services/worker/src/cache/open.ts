import type { DatabaseSync } from "node:sqlite";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import { ResultCache } from "../solver/result-cache.ts";
import { openCacheDatabase } from "./database.ts";
import { RecordTable } from "./record-table.ts";
import { CacheRecords } from "./records.ts";
import { reconcile } from "./recovery.ts";

/** What the worker keeps from build to build. Disposing closes its database. */
export interface Cache extends Disposable {
  readonly database: DatabaseSync;
  readonly records: CacheRecords;
  readonly results: ResultCache;
  /** Snapshots that nothing needs any more, found at the start. */
  readonly leftovers: readonly string[];
}

/** Opens the cache at `path`, and makes it agree with what the snapshotter has. */
export async function openCache(path: string, snapshotter: Snapshotter, log: Logger): Promise<Cache> {
  using undo = new DisposableStack();
  const database = openCacheDatabase(path);
  undo.defer(() => database.close());
  const records = undo.use(new CacheRecords(new RecordTable(database)));
  const results = new ResultCache(database, records, snapshotter);
  const snapshots = new Map<string, Info>();
  for await (const info of snapshotter.walk([])) {
    snapshots.set(info.name, info);
  }
  const { leftovers, restored, forgotten } = reconcile(records, results.snapshots(), snapshots);
  if (restored > 0 || forgotten > 0) {
    log.info({ restored, forgotten }, "cache records made to agree with the snapshots there are");
  }
  const owned = undo.move();
  return { database, records, results, leftovers, [Symbol.dispose]: () => owned.dispose() };
}
