import { type Reason, ServiceError } from "@oci-worker/errdefs";
import type { Usage } from "@oci-worker/snapshots/snapshotter";
import type { CopyPart, CopyResult } from "./copy-tree.ts";

/** What can be done to a tree in a worker thread, and what comes of it. */
export interface TreeJobs {
  readonly measure: { readonly job: { readonly path: string }; readonly result: Usage };
  /** Deletes each of the directories, as far as it gets in the time given. */
  readonly remove: {
    readonly job: {
      readonly paths: readonly string[];
      readonly maxMs: number;
      /** Whether others who want the disk go first. */
      readonly isIdle: boolean;
    };
    /** What has become of each. */
    readonly result: ("gone" | "unfinished" | TreeFailure)[];
  };
  readonly copy: {
    readonly job: { readonly from: string; readonly to: string; readonly part: CopyPart };
    readonly result: CopyResult;
  };
  /** Makes empty directories for snapshots to come. */
  readonly spare: {
    readonly job: { readonly directory: string; readonly ids: readonly number[] };
    readonly result: undefined;
  };
  /** Writes everything of the file system that the directory `path` is on to its disk. */
  readonly sync: { readonly job: { readonly path: string }; readonly result: undefined };
}

/** Places in the memory that a thread shares with us. Not 0 once the current job is to be given up. */
export const canceledFlag = 0;

/** Not 0 once the thread has loaded all its modules. */
export const loadedFlag = 1;

/** A job as it is sent to a worker. */
export type TreeJob = { [K in keyof TreeJobs]: { readonly kind: K } & TreeJobs[K]["job"] }[keyof TreeJobs];

/** What a worker answers. */
export type TreeReply =
  | { readonly result: TreeJobs[keyof TreeJobs]["result"] }
  | { readonly failure: TreeFailure };

/** An error on its way between threads. */
export interface TreeFailure {
  /** Of a `ServiceError`. */
  readonly reason?: Reason | undefined;
  readonly message: string;
  /** Of a failed system call, such as "ENOSPC". */
  readonly code?: string | undefined;
}

/** Undoes {@link failureOf}. */
export function errorOf({ reason, message, code }: TreeFailure): Error {
  return reason === undefined
    ? Object.assign(new Error(message), { code })
    : new ServiceError(reason, message);
}

/** An error loses its class on the way to another thread; this is what is kept of it. */
export function failureOf(error: unknown): TreeFailure {
  if (error instanceof ServiceError) {
    return { reason: error.reason, message: error.message };
  }
  if (error instanceof Error) {
    return { message: error.message, code: "code" in error ? String(error.code) : undefined };
  }
  return { message: String(error) };
}
