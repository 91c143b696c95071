import type { Status } from "@oci-worker/errdefs/connect";
import type { BuildOptions, BuiltLayer } from "@oci-worker/estargz/build";

/** What the thread is to build. */
export interface BuildTask {
  /** Of the file with the layer as it came. */
  readonly sourceFd: number;
  readonly sourceBytes: number;
  /** Of the file for the new one. */
  readonly targetFd: number;
  readonly options: Omit<BuildOptions, "signal">;
}

/** How far it is. */
export interface BuildProgress {
  /** Of the layer as it came. */
  readonly readBytes: number;
  /** Of the new one. */
  readonly writtenBytes: number;
}

/** What it says. */
export type BuildMessage = { readonly kind: "progress"; readonly progress: BuildProgress } | BuildOutcome;

/** Its last word. */
export type BuildOutcome =
  | { readonly kind: "built"; readonly layer: BuiltLayer }
  | { readonly kind: "inexpressible"; readonly obstacle: string }
  | { readonly kind: "failed"; readonly status: Status };
