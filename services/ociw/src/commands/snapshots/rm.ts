import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { UsageError } from "../../args/usage-error.ts";
import { failureLine } from "../../output/failure.ts";
import { printable } from "../../output/printable.ts";
import type { Command } from "../command.ts";
import { confirmed } from "../confirmed.ts";
import { byAge } from "./description.ts";
import { findSnapshot } from "./find.ts";
import { forestOf } from "./forest.ts";
import { mountPointOf } from "./mount-point.ts";
import { withSnapshotter } from "./target.ts";

const flags = {
  force: { short: "f", help: "do not ask, and mind neither mounts nor keys that are not there" },
  recursive: { short: "r", help: "remove what stands on them, too" },
} as const;

/** `ociw snapshots rm` */
export const rm: Command = {
  synopsis: "snapshots rm [flags] KEY...",
  summary: "Removes snapshots, and with --recursive those that stand on them.",
  details: [
    "Writes the keys of what it has removed. With --recursive it shows what that takes along and asks first; what is mounted\n" +
      "stays. --force does without. A client that knows of a snapshot, such as containerd, expects to find it: remove there\n" +
      "what is known there.",
  ],
  flags,

  async run(invocation) {
    const { flags: given, words, rest, terminal } = invocation;
    const keys = [...words, ...(rest ?? [])];
    if (keys.length === 0) {
      throw new UsageError("Cannot remove a snapshot: want its key");
    }
    const isForced = given["force"] !== undefined;
    return await withSnapshotter(invocation, async (snapshotter, signal) => {
      let failed = false;
      const tell = (error: unknown) => {
        failed = true;
        terminal.stderr.write(failureLine("ociw", error));
      };
      const found = await findAll(snapshotter, keys, signal, isForced, tell);
      const removed = given["recursive"] === undefined ? found : await withAbove(snapshotter, found, signal);
      if (removed.length > found.length && !isForced) {
        const list = removed.map(({ name, kind }) => `  ${printable(name)} (${kind})\n`).join("");
        if (!(await confirmed(`This will remove ${removed.length} snapshots:\n${list}`, terminal, signal))) {
          return 1;
        }
      }
      for (const info of removed) {
        const { name } = info;
        try {
          if (!isForced) {
            await requireUnmounted(snapshotter, info, signal);
          }
          await remove(snapshotter, name, signal);
          terminal.stdout.write(`${printable(name)}\n`);
        } catch (error) {
          signal.throwIfAborted();
          if (!(isForced && error instanceof NotFoundError)) {
            tell(error);
          }
        }
      }
      return failed ? 1 : 0;
    });
  },
};

/**
 * The snapshots that `keys` mean, the youngest first: what stands on another one is younger. Of those that mean none `tell`
 * is told, unless nobody minds.
 */
async function findAll(
  snapshotter: Snapshotter,
  keys: readonly string[],
  signal: AbortSignal,
  isForced: boolean,
  tell: (error: unknown) => void,
): Promise<Info[]> {
  const found = new Map<string, Info>();
  for (const key of keys) {
    try {
      const info = await findSnapshot(snapshotter, key, signal);
      found.set(info.name, info);
    } catch (error) {
      const isAboutKey = error instanceof NotFoundError;
      if (!isAboutKey) {
        throw error;
      }
      if (!isForced) {
        tell(error);
      }
    }
  }
  return [...found.values()].sort((one, other) => byAge(other, one));
}

/** `found` and all that stands on them, each one after what stands on it: the order in which they can be removed. */
async function withAbove(
  snapshotter: Snapshotter,
  found: readonly Info[],
  signal: AbortSignal,
): Promise<Info[]> {
  const all = await Array.fromAsync(snapshotter.walk([], signal));
  const above = new Map<string, Info>();
  for (const { name } of found) {
    for (const { info } of forestOf(all, name).reverse()) {
      above.set(info.name, info);
    }
  }
  return [...above.values()];
}

/** What removes a snapshot under a container that runs breaks that. */
async function requireUnmounted(snapshotter: Snapshotter, info: Info, signal: AbortSignal): Promise<void> {
  const mountPoint = await mountPointOf(snapshotter, info, signal);
  if (mountPoint !== undefined) {
    throw new FailedPreconditionError(
      `Cannot remove ${JSON.stringify(printable(info.name))}: it is mounted at ${printable(mountPoint)}, want it unmounted first, or --force`,
    );
  }
}

async function remove(snapshotter: Snapshotter, name: string, signal: AbortSignal): Promise<void> {
  try {
    await snapshotter.remove(name, signal);
  } catch (error) {
    throw error instanceof FailedPreconditionError
      ? new FailedPreconditionError(`${error.message} (--recursive removes what stands on it, too)`, {
          cause: error,
        })
      : error;
  }
}
