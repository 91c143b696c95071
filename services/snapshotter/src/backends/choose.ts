import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Backend, BackendName, Probe } from "./backend.ts";

/** Order of preference of `auto`. `native` comes last: it needs nothing of the host, and much of its disk. */
const preference = ["overlayfs", "native"] as const satisfies readonly BackendName[];

export interface ChoiceOptions {
  readonly root: string;
  /** What the operator has asked for. */
  readonly wanted: BackendName | "auto";
  /** Which backend the snapshots on `root` belong to; undefined if there are none. */
  readonly existing: BackendName | undefined;
  readonly probes: Readonly<Record<BackendName, Probe>>;
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
export async function chooseBackend(options: ChoiceOptions, log: Logger): Promise<Backend> {
  const { root, wanted, existing, probes } = options;
  if (existing !== undefined && wanted !== "auto" && wanted !== existing) {
    throw new FailedPreconditionError(
      `Cannot use ${wanted} on ${root}: it holds snapshots of ${existing}, want that backend or another root`,
    );
  }
  const named = existing ?? (wanted === "auto" ? undefined : wanted);
  if (named !== undefined) {
    const backend = await probes[named](root);
    if ("obstacle" in backend) {
      throw new FailedPreconditionError(`Cannot use ${named} on ${root}: ${backend.obstacle}`);
    }
    const reason = existing === undefined ? "configured" : "has snapshots here";
    log.info({ backend: named, root, reason }, "backend chosen");
    return backend;
  }
  for (const name of preference) {
    const backend = await probes[name](root);
    if (!("obstacle" in backend)) {
      log.info({ backend: name, root, reason: "first that runs here" }, "backend chosen");
      return backend;
    }
    log.warn({ backend: name, root, obstacle: backend.obstacle }, "backend passed over");
  }
  throw new FailedPreconditionError(`Cannot choose a backend for ${root}: none can run there`);
}
