import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { type Control, type PruneRequest, UsageRecordSchema } from "@oci-worker/api/buildkit/control";
import { GCPolicySchema } from "@oci-worker/api/buildkit/worker";
import type { Builds } from "../builds/builds.ts";
import type { Collector } from "../cache/collector.ts";
import type { GcPolicy } from "../cache/gc-policy.ts";
import type { CacheUsage, MeasuredRecord } from "../cache/usage.ts";

export interface CacheParts {
  readonly builds: Builds;
  readonly usage: CacheUsage;
  readonly collector: Collector;
}

const nsPerMs = 1_000_000n;

/** The part of moby.buildkit.v1.Control that shows the cache and removes from it. */
export function cacheService({
  builds,
  collector,
  usage,
}: CacheParts): Pick<ServiceImpl<typeof Control>, "diskUsage" | "prune"> {
  return {
    async diskUsage({ filter, ageLimit }, { signal }) {
      const records = await usage.list(filter, Number(ageLimit / nsPerMs), signal);
      return { record: records.map(usageRecord) };
    },

    async *prune(request, { signal }) {
      for await (const record of collector.prune(policyOf(request), () => builds.isIdle, signal)) {
        yield create(UsageRecordSchema, usageRecord(record));
      }
    },
  };
}

function policyOf(request: PruneRequest): GcPolicy {
  return {
    all: request.all,
    filters: request.filter,
    keepDurationMs: Number(request.keepDuration / nsPerMs),
    reservedBytes: Number(request.reservedSpace),
    maxUsedBytes: Number(request.maxUsedSpace),
    minFreeBytes: Number(request.minFreeSpace),
  };
}

function usageRecord(record: MeasuredRecord): MessageInitShape<typeof UsageRecordSchema> {
  const { id, parents, type, description, mutable, inUse, sizeBytes, createdAtMs, usedAtMs, useCount } =
    record;
  return {
    ID: id,
    Mutable: mutable,
    InUse: inUse,
    Size: BigInt(sizeBytes),
    Parent: parents[0] ?? "",
    Parents: [...parents],
    CreatedAt: timestampFromMs(createdAtMs),
    ...(usedAtMs !== undefined && { LastUsedAt: timestampFromMs(usedAtMs) }),
    UsageCount: BigInt(useCount),
    Description: description,
    RecordType: type,
    Shared: false,
  };
}

/** A rule as ListWorkers tells of it. */
export function policyToProto(policy: GcPolicy) {
  return create(GCPolicySchema, {
    all: policy.all,
    keepDuration: BigInt(policy.keepDurationMs) * nsPerMs,
    filters: [...policy.filters],
    reservedSpace: BigInt(policy.reservedBytes),
    maxUsedSpace: BigInt(policy.maxUsedBytes),
    minFreeSpace: BigInt(policy.minFreeBytes),
  });
}
