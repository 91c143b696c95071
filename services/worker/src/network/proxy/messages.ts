import type { RequestSummary } from "./request-log.ts";

/** What the thread of the proxies is told to do; the number is that of a step's proxy. */
export type ProxyOrder =
  | {
      readonly kind: "open";
      readonly id: number;
      /** Of the step. */
      readonly namespacePath: string;
      /** That is asked from; undefined for the worker's own. */
      readonly egressPath: string | undefined;
    }
  | { readonly kind: "close"; readonly id: number };

/** What it answers to each. */
export type ProxyAnswer =
  | { readonly kind: "opened"; readonly id: number; readonly proxy: OpenProxy }
  | { readonly kind: "closed"; readonly id: number; readonly summary: RequestSummary }
  | { readonly kind: "failed"; readonly id: number; readonly why: string };

/** A proxy that listens. */
export interface OpenProxy {
  /** As the step names it. */
  readonly url: string;
  /** The certificate that it must be shown to trust the proxy, PEM. */
  readonly authority: string;
}
