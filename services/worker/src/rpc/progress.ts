import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  VertexLogSchema,
  VertexSchema,
  VertexStatusSchema,
  VertexWarningSchema,
} from "@oci-worker/api/buildkit/control";
import type { ProgressEvent } from "../solver/progress.ts";

interface StatusInit {
  readonly vertexes: MessageInitShape<typeof VertexSchema>[];
  readonly statuses: MessageInitShape<typeof VertexStatusSchema>[];
  readonly logs: MessageInitShape<typeof VertexLogSchema>[];
  readonly warnings: MessageInitShape<typeof VertexWarningSchema>[];
}

/** Output in one message at most; clients take 16 MiB, and upstream cuts here too. */
const maxLogBytes = 1024 * 1024;

/** Turns a batch of events into messages of Control.Status, logs cut so that no message becomes too large. */
export function* statusResponses(events: readonly ProgressEvent[]): Generator<StatusInit> {
  let response = emptyResponse();
  let logBytes = 0;
  for (const event of events) {
    switch (event.kind) {
      case "vertex": {
        const { startedAt, completedAt, inputs, ...vertex } = event.vertex;
        response.vertexes.push({
          ...vertex,
          inputs: [...inputs],
          ...(startedAt && { started: timestampFromDate(startedAt) }),
          ...(completedAt && { completed: timestampFromDate(completedAt) }),
        });
        break;
      }
      case "row": {
        const { id, vertex, name, current, total, timestamp, startedAt, completedAt } = event.row;
        response.statuses.push({
          ID: id,
          vertex,
          name,
          current: BigInt(current),
          total: BigInt(total),
          timestamp: timestampFromDate(timestamp),
          started: timestampFromDate(startedAt),
          ...(completedAt && { completed: timestampFromDate(completedAt) }),
        });
        break;
      }
      case "log": {
        const { vertex, stream, data, timestamp } = event.log;
        if (logBytes > 0 && logBytes + data.length > maxLogBytes) {
          yield response;
          response = emptyResponse();
          logBytes = 0;
        }
        logBytes += data.length;
        response.logs.push({
          vertex,
          stream: BigInt(stream),
          msg: data,
          timestamp: timestampFromDate(timestamp),
        });
        break;
      }
      case "warning": {
        const { detail, level, ranges, source, ...warning } = event.warning;
        response.warnings.push({
          ...warning,
          level: BigInt(level),
          detail: [...detail],
          ...(source && { info: source }),
          ranges: [...ranges],
        });
        break;
      }
    }
  }
  yield response;
}

function emptyResponse(): StatusInit {
  return { vertexes: [], statuses: [], logs: [], warnings: [] };
}
