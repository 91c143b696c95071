import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type BuildHistoryEvent,
  BuildHistoryEventSchema,
  BuildHistoryEventType,
  type Control,
  DescriptorSchema,
} from "@oci-worker/api/buildkit/control";
import { InvalidArgumentError, ServiceError } from "@oci-worker/errdefs";
import { statusOf } from "@oci-worker/errdefs/connect";
import type { BuildHistory } from "../history/build-history.ts";
import type { BuildBlob, BuildRecord, HistoryEvent } from "../history/build-record.ts";
import { announceTime } from "./announce-time.ts";

/** The part of moby.buildkit.v1.Control that tells of builds, those that have ended among them. */
export function historyService(
  history: BuildHistory,
): Pick<ServiceImpl<typeof Control>, "listenBuildHistory" | "updateBuildHistory"> {
  return {
    async *listenBuildHistory(request, context) {
      const events = history.listen(
        {
          activeOnly: request.ActiveOnly,
          ref: request.Ref,
          earlyExit: request.EarlyExit,
          filters: request.Filter,
          limit: request.Limit,
        },
        context.signal,
      );
      announceTime(context);
      for await (const event of events) {
        yield eventToProto(event);
      }
    },

    async updateBuildHistory({ Ref, Delete, Finalize, Pinned }) {
      if (Ref === "") {
        throw new InvalidArgumentError(
          "Cannot change a build's record: the request has no Ref, want its name",
        );
      }
      if (Delete) {
        await history.delete(Ref);
      } else if (Finalize) {
        await history.finalize(Ref);
      } else {
        history.pin(Ref, Pinned);
      }
      return {};
    },
  };
}

function eventToProto(event: HistoryEvent): BuildHistoryEvent {
  if (event.kind === "deleted") {
    return create(BuildHistoryEventSchema, {
      type: BuildHistoryEventType.DELETED,
      record: { Ref: event.ref },
    });
  }
  const type = event.kind === "started" ? BuildHistoryEventType.STARTED : BuildHistoryEventType.COMPLETE;
  return create(BuildHistoryEventSchema, { type, record: recordToProto(event.record) });
}

function recordToProto(record: BuildRecord) {
  const { error, externalError, logs, result, steps, trace, completedAtMs } = record;
  const status = error && statusOf(new ServiceError(error.reason, error.message));
  return {
    Ref: record.ref,
    Frontend: record.frontend,
    FrontendAttrs: { ...record.frontendAttrs },
    Exporters: record.exporters.map(({ type, attrs }) => ({ Type: type, Attrs: { ...attrs } })),
    ...(status && { error: { code: status.code, message: status.message } }),
    CreatedAt: timestampFromMs(record.createdAtMs),
    ...(completedAtMs !== undefined && { CompletedAt: timestampFromMs(completedAtMs) }),
    ...(externalError && { externalError: blobToProto(externalError) }),
    ...(logs && { logs: blobToProto(logs) }),
    ExporterResponse: { ...record.response },
    ...(result && {
      Result: { ResultDeprecated: blobToProto(result), Results: { "0": blobToProto(result) } },
    }),
    ...(trace && { trace: blobToProto(trace) }),
    Generation: record.generation,
    pinned: record.pinned,
    numTotalSteps: steps.total,
    numCachedSteps: steps.cached,
    numCompletedSteps: steps.completed,
    numWarnings: record.warnings,
  };
}

function blobToProto({ mediaType, digest, sizeBytes }: BuildBlob) {
  return create(DescriptorSchema, { mediaType, digest, size: BigInt(sizeBytes) });
}
