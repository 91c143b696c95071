import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Backend, BackendName, Probe } from "./backend.ts";

/** Order of preference of `auto`. `native` comes last: it needs nothing of the host, and much of its disk. */
export const preference = ["overlayfs", "fuse-overlayfs", "native"] as const satisfies readonly BackendName[];

export interface ChoiceOptions {
  readonly root: string;
  /** What the operator has asked for. */
  readonly wanted: BackendName | "auto";
  /** What `auto` never takes. */
  readonly excluded: readonly BackendName[];
  /** Which backend the snapshots on `root` belong to; undefined if there are none. */
  readonly existing: BackendName | undefined;
  readonly probes: Readonly<Record<BackendName, Probe>>;
}

/** Why a backend was taken. */
export type ChoiceReason = "configured" | "has snapshots here" | "first that runs here";

/** A backend that `auto` would have preferred, and why it was not taken. */
export interface PassedOver {
  readonly name: BackendName;
  readonly obstacle: string;
}

/** The backend of a root, and how it came to be that one. */
export interface Choice {
  readonly backend: Backend;
  readonly wanted: BackendName | "auto";
  readonly reason: ChoiceReason;
  /** In the order of preference; empty unless each was tried. */
  readonly passedOver: readonly PassedOver[];
}

/**
 * Settles on a backend for `root`. Each one that is passed over is logged with the reason.
 *
 * Snapshots that are there decide, because no other backend could read them; then the operator; then the first of
 * {@link preference} that this host supports. One that somebody named is never second-guessed: better to fail at the
 * start than to fill the disk on another one.
 *
 * @throws {FailedPreconditionError} if that backend cannot run, with the obstacle, or is not the operator's.
 */
export async function chooseBackend(options: ChoiceOptions, log: Logger): Promise<Choice> {
  const { root, wanted, existing } = options;
  const choice = await settle(options, log);
  const { backend, reason, passedOver } = choice;
  log.info({ backend: backend.name, root, reason }, "backend chosen");
  if (wanted === "auto" && existing === undefined && backend.name === "native") {
    log.warn(
      { backend: backend.name, root, passedOver },
      "native is all that runs here: each snapshot is a full copy of its parent, slow to make and large; mend one of the obstacles, or refuse it with autoExclude",
    );
  }
  return choice;
}

async function settle(options: ChoiceOptions, log: Logger): Promise<Choice> {
  const { root, wanted, excluded, existing, probes } = options;
  if (existing !== undefined && wanted !== "auto" && wanted !== existing) {
    throw new FailedPreconditionError(
      `Cannot use ${wanted} on ${root}: it holds snapshots of ${existing}, want that backend or another root`,
    );
  }
  if (existing !== undefined && wanted === "auto" && excluded.includes(existing)) {
    throw new FailedPreconditionError(
      `Cannot use auto on ${root}: it holds snapshots of ${existing}, which autoExclude refuses, want that backend by name or another root`,
    );
  }
  const named = existing ?? (wanted === "auto" ? undefined : wanted);
  if (named !== undefined) {
    const backend = await probes[named](root);
    if ("obstacle" in backend) {
      throw new FailedPreconditionError(`Cannot use ${named} on ${root}: ${backend.obstacle}`);
    }
    const reason = existing === undefined ? "configured" : "has snapshots here";
    return { backend, wanted, reason, passedOver: [] };
  }
  const passedOver: PassedOver[] = [];
  for (const name of preference) {
    const backend = excluded.includes(name)
      ? { obstacle: "autoExclude refuses it" }
      : await probes[name](root);
    if (!("obstacle" in backend)) {
      return { backend, wanted, reason: "first that runs here", passedOver };
    }
    log.warn({ backend: name, root, obstacle: backend.obstacle }, "backend passed over");
    passedOver.push({ name, obstacle: backend.obstacle });
  }
  const why = passedOver.map(({ name, obstacle }) => `${name}: ${obstacle}`).join("; ");
  throw new FailedPreconditionError(`Cannot choose a backend for ${root}: none can run there: ${why}`);
}
