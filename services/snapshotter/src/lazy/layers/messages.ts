import type { MessagePort } from "node:worker_threads";
import type { TreeFailure } from "../../trees/jobs.ts";
import type { MissedRead } from "../device/missed-read.ts";
import type { SharedLayer } from "../device/shared-layer.ts";
import type { ServedDevice } from "../kernel/layer-mounter.ts";
import type { LayerIdentity, OpenedLayer } from "../lazy-layers.ts";
import type { LazySettings } from "./layer-set.ts";
import type { DetailedStatus } from "./layer-status.ts";

/** What the thread that fetches is started with. */
export interface LazyThreadData {
  readonly root: string;
  readonly settings: LazySettings;
  readonly resolverAddress: string;
}

/** A FUSE device, and the way to the thread that serves it. */
export interface ServedBy {
  readonly fd: number;
  readonly thread: MessagePort;
}

/** What a thread that serves a FUSE device is started with. */
export interface DeviceThreadData {
  readonly device: ServedDevice;
  /** To the thread that fetches. */
  readonly fetcher: MessagePort;
  /** One number, 1 once it shall end. */
  readonly stopped: Int32Array<SharedArrayBuffer>;
  /** Until then it refuses whatever it is asked for, and ends; in milliseconds as of `Date.now()`. */
  readonly refuseUntilMs: number | undefined;
}

/** From the thread that fetches to the one that serves. */
export type ToDevice = { readonly added: SharedLayer } | { readonly removed: number };

/** And back. */
export type FromDevice =
  | { readonly missed: MissedRead }
  | { readonly interrupted: bigint }
  | { readonly damaged: { readonly layer: number; readonly message: string } }
  /** What has been thrown at a request, which has got EIO. */
  | { readonly thrown: string };

/** What the thread that fetches is asked for. */
export interface LazyCalls {
  readonly open: {
    readonly call: { readonly labels: Readonly<Record<string, string>> };
    readonly result: OpenedLayer;
  };
  readonly reopen: { readonly call: LayerIdentity; readonly result: OpenedLayer };
  /** Has what the device misses fetched, and tells its thread of the layers: each thread that serves the device. */
  readonly serve: { readonly call: { readonly device: ServedBy }; readonly result: undefined };
  /** Nothing is to be written to that device any more. */
  readonly unserve: { readonly call: { readonly fd: number }; readonly result: undefined };
  readonly prefetched: { readonly call: { readonly number: number }; readonly result: undefined };
  readonly useAsDevice: { readonly call: { readonly number: number }; readonly result: boolean };
  readonly releaseDevice: { readonly call: { readonly number: number }; readonly result: undefined };
  readonly forget: { readonly call: { readonly number: number }; readonly result: undefined };
  readonly status: { readonly call: object; readonly result: DetailedStatus[] };
  readonly firstReads: { readonly call: { readonly number: number }; readonly result: string[] };
  readonly stop: { readonly call: object; readonly result: undefined };
}

export type LazyCall = {
  [K in keyof LazyCalls]: { readonly kind: K; readonly id: number } & LazyCalls[K]["call"];
}[keyof LazyCalls];

export type ToLazyThread = LazyCall | { readonly kind: "cancel"; readonly id: number };

export type FromLazyThread =
  | { readonly kind: "ready" }
  | { readonly kind: "complete"; readonly layer: LayerIdentity }
  | { readonly kind: "log"; readonly message: string; readonly fields: Readonly<Record<string, unknown>> }
  | { readonly kind: "result"; readonly id: number; readonly result: LazyCalls[keyof LazyCalls]["result"] }
  | { readonly kind: "failure"; readonly id: number; readonly failure: TreeFailure };
