import { statfs } from "node:fs/promises";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import type { ContentStore } from "../content/store.ts";
import { ResultCache } from "../solver/result-cache.ts";
import { Collector } from "./collector.ts";
import { openCacheDatabase } from "./database.ts";
import { type GcSettings, gcPolicies } from "./gc-policy.ts";
import { Pruner } from "./prune.ts";
import { RecordTable } from "./record-table.ts";
import { CacheRecords } from "./records.ts";
import { reconcile } from "./recovery.ts";
import { RemovalLog } from "./removal-log.ts";
import { CacheUsage } from "./usage.ts";

/** What the worker keeps from build to build. Disposing ends a garbage collection and closes the database. */
export interface Cache extends AsyncDisposable {
  readonly database: DatabaseSync;
  readonly records: CacheRecords;
  readonly results: ResultCache;
  readonly usage: CacheUsage;
  readonly removals: RemovalLog;
  readonly collector: Collector;
  /** Snapshots that nothing needs any more, found at the start. */
  readonly leftovers: readonly string[];
}

export interface CacheOptions {
  /** Directory of the database, on the disk whose room the policies are about. */
  readonly root: string;
  readonly settings: GcSettings;
  readonly snapshotter: Snapshotter;
  readonly content: ContentStore;
  readonly log: Logger;
}

/** Opens the cache, and makes it agree with what the snapshotter has. */
export async function openCache({ root, settings, snapshotter, content, log }: CacheOptions): Promise<Cache> {
  await using undo = new AsyncDisposableStack();
  const database = openCacheDatabase(join(root, "cache.db"));
  undo.defer(() => database.close());
  const records = undo.use(
    new CacheRecords(new RecordTable(database), (error) => {
      log.warn({ error }, "uses of cache records cannot be written, trying again");
    }),
  );
  const results = new ResultCache(database, records, snapshotter);
  const isResult = (name: string) => results.leadTo(name);
  const { leftovers, restored, forgotten } = await reconcile(records, isResult, snapshotter.pages([]));
  if (restored > 0 || forgotten > 0) {
    log.info({ restored, forgotten }, "cache records made to agree with the snapshots there are");
  }
  const usage = new CacheUsage({ records, snapshotter, content });
  const removals = new RemovalLog(database);
  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(root);
    return bavail * bsize;
  };
  const pruner = new Pruner({ records, usage, removals, snapshotter, content, freeBytes, log });
  const policies = gcPolicies(settings, await diskBytes(root));
  const collector = undo.use(new Collector({ pruner, records, content, policies, log }));
  const owned = undo.move();
  return {
    database,
    records,
    results,
    usage,
    removals,
    collector,
    leftovers,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function diskBytes(path: string): Promise<number | undefined> {
  try {
    const { blocks, bsize } = await statfs(path);
    return blocks * bsize;
  } catch {
    // The rules have numbers for that.
    return undefined;
  }
}
