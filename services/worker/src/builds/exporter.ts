import type { Lease } from "../cache/lease.ts";
import type { Session } from "../session/session.ts";
import type { Ref } from "../solver/operation.ts";
import type { VertexReport } from "../solver/vertex-report.ts";

/** What a client says of its result beside the files, by upstream's keys, such as `containerimage.config`. */
export type ResultMetadata = Readonly<Record<string, Uint8Array>>;

export interface ExportContext {
  /** The client; undefined if it has no session. */
  readonly session: Session | undefined;
  readonly metadata: ResultMetadata;
  readonly report: VertexReport;
  readonly signal: AbortSignal;
  /** Holds what is made for the export until that is over. */
  readonly lease: Lease;
  /** The sessions of the build, whose credentials may be used. */
  sessionIDs(): readonly string[];
}

/** What becomes of a build's result. */
export interface Exporter {
  /** What people see while it works. */
  readonly name: string;

  /** @returns what the client is told of the result, by upstream's keys. */
  export(result: Ref, context: ExportContext): Promise<Readonly<Record<string, string>>>;
}

/** A kind of exporter, given what the client wants of it. @throws {InvalidArgumentError} naming the attribute at fault. */
export type ExporterKind = (attributes: Readonly<Record<string, string>>) => Exporter;
