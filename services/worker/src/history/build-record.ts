import type { Reason } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";

/** What is known of a build when it begins. */
export interface BuildDescription {
  /** The client's own name for it. */
  readonly ref: string;
  readonly frontend: string;
  readonly frontendAttrs: Readonly<Record<string, string>>;
  readonly exporters: readonly { readonly type: string; readonly attrs: Readonly<Record<string, string>> }[];
}

/** A blob of the content store that belongs to a build. */
export interface BuildBlob {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** How many vertices a build had, and what became of them. */
export interface StepCounts {
  readonly total: number;
  /** Those whose result was there already. */
  readonly cached: number;
  /** Those that have ended, cached ones included. */
  readonly completed: number;
}

/** A build and what is remembered of it. */
export interface BuildRecord extends BuildDescription {
  readonly createdAtMs: number;
  /** Undefined as long as it is under way. */
  readonly completedAtMs: number | undefined;
  /** Undefined if it ended well, or has not ended. */
  readonly error: { readonly reason: Reason; readonly message: string } | undefined;
  /** What the client was told of the result, by upstream's keys. */
  readonly response: Readonly<Record<string, string>>;
  /** The same with all that clients are told of it; undefined if it ended well, or has not ended. */
  readonly externalError: BuildBlob | undefined;
  /** Its whole progress; undefined as long as it is under way. */
  readonly logs: BuildBlob | undefined;
  /** What was exported, if that is in the content store. */
  readonly result: BuildBlob | undefined;
  /** What was done for it, by whom and how long; undefined as long as not all of that is known. */
  readonly trace: BuildBlob | undefined;
  readonly steps: StepCounts;
  /** How many warnings it has given. */
  readonly warnings: number;
  /** It is spared when old ones are forgotten. */
  readonly pinned: boolean;
  /** Goes up by one whenever the record changes. */
  readonly generation: number;
}

/** What happens to a record. */
export type HistoryEvent =
  | { readonly kind: "started" | "complete"; readonly record: BuildRecord }
  | { readonly kind: "deleted"; readonly ref: string };
