import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  VertexLog as LogProto,
  StatusResponse,
  VertexStatus as TaskProto,
  Vertex as VertexProto,
  VertexWarning as WarningProto,
} from "@oci-worker/api/buildkit/control";

/** What has happened in a build since the update before. */
export interface StatusUpdate {
  readonly vertices: readonly VertexUpdate[];
  readonly tasks: readonly TaskUpdate[];
  readonly logs: readonly LogChunk[];
  readonly warnings: readonly Warning[];
}

/** One step of a build. A later update of the same digest replaces this one. */
export interface VertexUpdate {
  readonly digest: string;
  /** Digests of the steps that come before it. */
  readonly inputs: readonly string[];
  readonly name: string;
  /** Its result was there already. */
  readonly cached: boolean;
  /** When it started and ended, in milliseconds since 1970 with fractions; undefined if it has not. */
  readonly startedAtMs: number | undefined;
  readonly completedAtMs: number | undefined;
  /** Why it failed; empty if it has not. */
  readonly error: string;
}

/** Something that a step does, such as a download. A later update of the same vertex and id replaces this one. */
export interface TaskUpdate {
  readonly vertex: string;
  readonly id: string;
  readonly name: string;
  /** How far it is, mostly in bytes. */
  readonly current: number;
  /** Where it ends; 0 if nobody knows. */
  readonly total: number;
  readonly startedAtMs: number | undefined;
  readonly completedAtMs: number | undefined;
}

/** A piece of what the process of a step has written. Pieces end anywhere, also inside a line or a character. */
export interface LogChunk {
  readonly vertex: string;
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

export interface Warning {
  readonly vertex: string;
  readonly text: string;
  readonly details: readonly string[];
  readonly url: string;
}

/** Number of standard error in the protocol; all else is standard output. */
const standardError = 2n;

/** What a daemon says, in our words. */
export function statusUpdateOf({ vertexes, statuses, logs, warnings }: StatusResponse): StatusUpdate {
  return {
    vertices: vertexes.map(vertexOf),
    tasks: statuses.map(taskOf),
    logs: logs.map(logOf),
    warnings: warnings.map(warningOf),
  };
}

function vertexOf({ digest, inputs, name, cached, started, completed, error }: VertexProto): VertexUpdate {
  const [startedAtMs, completedAtMs] = [millisecondsOf(started), millisecondsOf(completed)];
  return { digest, inputs, name, cached, startedAtMs, completedAtMs, error };
}

function taskOf({ vertex, ID, name, current, total, started, completed }: TaskProto): TaskUpdate {
  return {
    vertex,
    id: ID,
    name,
    current: Number(current),
    total: Number(total),
    startedAtMs: millisecondsOf(started),
    completedAtMs: millisecondsOf(completed),
  };
}

function logOf({ vertex, stream, msg }: LogProto): LogChunk {
  return { vertex, stream: stream === standardError ? "stderr" : "stdout", data: msg };
}

function warningOf({ vertex, short, detail, url }: WarningProto): Warning {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
  return { vertex, text: text(short), details: detail.map(text), url };
}

function millisecondsOf(time: Timestamp | undefined): number | undefined {
  return time === undefined ? undefined : Number(time.seconds) * 1000 + time.nanos / 1_000_000;
}
