import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { type CacheService, RemovalSchema } from "@oci-worker/api/ociworker/worker";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { RemovalLog } from "../cache/removal-log.ts";

const defaultLimit = 100;

/** Serves ociworker.worker.v1.CacheService: what was removed from the cache, and why. */
export function removalsService(removals: Pick<RemovalLog, "latest">): ServiceImpl<typeof CacheService> {
  return {
    listRemovals({ limit }) {
      if (limit < 0) {
        throw new InvalidArgumentError(`Cannot list removals: the limit is ${limit}, want 0 or more`);
      }
      const latest = removals.latest(limit === 0 ? defaultLimit : limit);
      return {
        removals: latest.map(({ sizeBytes, removedAtMs, rule = 0, by: _by, ...removal }) =>
          create(RemovalSchema, {
            ...removal,
            sizeBytes: BigInt(sizeBytes),
            removedAt: timestampFromMs(removedAtMs),
            rule,
          }),
        ),
      };
    },
  };
}
