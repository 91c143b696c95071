import type { Session } from "../session/session.ts";
import type { Ref } from "../solver/operation.ts";
import type { VertexReport } from "../solver/vertex-report.ts";

export interface ExportContext {
  readonly session: Session;
  readonly report: VertexReport;
  readonly signal: AbortSignal;
}

/** What becomes of a build's result. */
export interface Exporter {
  /** What people see while it works. */
  readonly name: string;

  /** @returns what the client is told of the result, by upstream's keys. */
  export(result: Ref, context: ExportContext): Promise<Readonly<Record<string, string>>>;
}
