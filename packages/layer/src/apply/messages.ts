import type { Reason } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Compression } from "../compression/detect.ts";
import type { ProgramEnd } from "../compression/program.ts";
import type { Skip } from "./skips.ts";

/** What the thread is given to do. */
export interface Task {
  /** The open blob. */
  readonly blobFd: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  readonly directory: string;
  readonly maxUnpackedBytes: number;
  readonly isUserNamespace: boolean;
  readonly compression: Compression;
  /** Where a program writes the decompressed archive; undefined if the thread decompresses the blob itself. */
  readonly archiveFd: number | undefined;
  /** Shared by both threads: the numbers at {@link canceledAt} and {@link programEndAt}. */
  readonly shared: Int32Array;
}

/** Not 0 once the task is canceled. */
export const canceledAt = 0;
/** 0 while the program runs, then how it has ended. */
export const programEndAt = 1;
export const programEnds = { succeeded: 1, failed: 2, killed: 3 } as const satisfies Record<
  ProgramEnd,
  number
>;
export const sharedBytes = 2 * Int32Array.BYTES_PER_ELEMENT;

/** How far the work has come. */
export interface Progress {
  /** Of the compressed blob, of {@link Task.sizeBytes}. */
  readonly readBytes: number;
  readonly entries: number;
}

export interface Applied {
  readonly diffId: Digest;
  /** Of the archive, as diffID covers it. */
  readonly uncompressedBytes: number;
  /** Whiteouts and what was skipped included. */
  readonly entries: number;
  /** What has decompressed it: "igzip", "zstd", "node:zlib", or "none". */
  readonly decompressor: string;
  /** The first things of the layer that were left out, and why. */
  readonly skipped: readonly Skip[];
  /** How many there were. */
  readonly skippedCount: number;
}

/** What the thread says: any number of times how far it is, and once how it ended. */
export type ThreadMessage = { readonly kind: "progress"; readonly progress: Progress } | Outcome;

export type Outcome =
  | { readonly kind: "applied"; readonly applied: Omit<Applied, "decompressor"> }
  | { readonly kind: "canceled" }
  | { readonly kind: "failed"; readonly failure: Failure };

/** A ServiceError in the form in which it passes between threads, which lose classes. */
export interface Failure {
  readonly reason: Reason;
  readonly message: string;
  /** The stack of what it comes from, for the log. */
  readonly cause: string | undefined;
}
