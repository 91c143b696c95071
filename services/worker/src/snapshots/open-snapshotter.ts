import {
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { describeSnapshotter } from "@oci-worker/snapshots/describe";
import { patient } from "@oci-worker/snapshots/patient";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { newId } from "../new-id.ts";
import { rooted } from "./rooted.ts";

export interface SnapshotterChoice {
  /** Path of its socket. */
  readonly address: string;
  /** What the operator calls it: a name of containerd's, or of a backend of ours. */
  readonly name: string;
}

export interface OpenedSnapshotter extends AsyncDisposable {
  readonly snapshotter: Snapshotter;
  /** How it keeps snapshots. */
  readonly backend: string;
}

/** One that restarts is waited for so long, instead of failing a build. */
const patienceMs = 60_000;

/** It must answer so soon when we start. Between two attempts to reach it there are three seconds at most. */
const startTimeoutMs = 30_000;

/**
 * Opens the snapshotter that the worker is to use: a child of ours, another one of ours, or anybody's who serves the API,
 * such as containerd itself.
 *
 * @throws {UnavailableError} if it does not answer.
 * @throws {FailedPreconditionError} if it is another client's, or does not know the name.
 */
export async function openSnapshotter(choice: SnapshotterChoice): Promise<OpenedSnapshotter> {
  const { address, name } = choice;
  await using undo = new AsyncDisposableStack();
  const proxy = undo.use(openProxy(address, { snapshotter: name, namespace: "buildkit", patienceMs }));
  await requireUse(patient(proxy), choice);
  const backend = await describedBackend(address);
  // Only containerd and what is like it collects what nobody has asked it to keep.
  const snapshotter = patient(backend === undefined ? rooted(proxy) : proxy);
  const owned = undo.move();
  return {
    snapshotter,
    backend: backend ?? name,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The backend that a snapshotter of ours runs on, which `auto` does not tell; undefined if it is none of ours. */
async function describedBackend(address: string): Promise<string | undefined> {
  using channel = unixChannel(address);
  return (await describeSnapshotter(channel, AbortSignal.timeout(startTimeoutMs)))?.backend;
}

/**
 * Makes sure that the snapshotter answers, and takes changes of ours, by removing a snapshot that nobody has: one whose
 * root is another client's refuses that, as it would refuse all that a build does.
 */
async function requireUse(snapshotter: Snapshotter, { address, name }: SnapshotterChoice): Promise<void> {
  try {
    await snapshotter.remove(`work-${newId()}`, AbortSignal.timeout(startTimeoutMs));
  } catch (cause) {
    if (cause instanceof NotFoundError) {
      return;
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    if (cause instanceof FailedPreconditionError) {
      throw new FailedPreconditionError(`Cannot use the snapshotter at ${address}: ${why}`, { cause });
    }
    if (cause instanceof InvalidArgumentError) {
      throw new FailedPreconditionError(
        `Cannot use the snapshotter at ${address} by the name ${JSON.stringify(name)}: ${why}, want --oci-worker-snapshotter with a name that it knows`,
        { cause },
      );
    }
    throw new UnavailableError(`failed to dial ${address}: ${why}`, { cause });
  }
}
