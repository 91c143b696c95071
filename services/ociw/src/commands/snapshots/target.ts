import { FailedPreconditionError, InvalidArgumentError, UnavailableError } from "@oci-worker/errdefs";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { FlagSpecs } from "../../args/flags.ts";
import { snapshotterAddressFlag, snapshotterAddressOf } from "../../args/snapshotter-address.ts";
import type { Invocation } from "../command.ts";
import { listenForInterruption } from "../interruption.ts";

/** containerd's own, for those who set no other; other snapshotters do not look at it. */
const defaultNamespace = "default";

/** Which snapshotter a command is about. The variables are those of containerd's `ctr`. */
export const targetFlags = {
  "snapshotter-address": snapshotterAddressFlag,
  snapshotter: {
    value: "NAME",
    help: "which snapshotter of the server: containerd needs it (default $CONTAINERD_SNAPSHOTTER, or none)",
  },
  namespace: {
    value: "NAMESPACE",
    help: `containerd's name space (default $CONTAINERD_NAMESPACE, or ${defaultNamespace})`,
  },
} as const satisfies FlagSpecs;

/**
 * Has `use` work on the snapshotter that the flags and the environment name, until it ends or somebody wants this program
 * to end.
 *
 * @returns the exit code: what `use` returns, or that of the interruption.
 */
export async function withSnapshotter(
  { flags, terminal }: Pick<Invocation, "flags" | "terminal">,
  use: (snapshotter: Snapshotter, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const address = snapshotterAddressOf(flags, terminal.env);
  const name = flags["snapshotter"]?.[0] ?? terminal.env["CONTAINERD_SNAPSHOTTER"] ?? "";
  const namespace = flags["namespace"]?.[0] || terminal.env["CONTAINERD_NAMESPACE"] || defaultNamespace;
  using interruption = listenForInterruption(terminal);
  await using snapshotter = openProxy(address, { snapshotter: name, namespace });
  try {
    const exitCode = await use(snapshotter, interruption.signal);
    return interruption.exitCode() ?? exitCode;
  } catch (error) {
    const exitCode = interruption.exitCode();
    if (exitCode !== undefined) {
      return exitCode;
    }
    throw explained(error, name);
  }
}

/** `error` with what a person can do about it, where that is known. */
function explained(error: unknown, name: string): unknown {
  if (error instanceof UnavailableError) {
    return new UnavailableError(
      `${error.message}; is the snapshotter running, and this its --snapshotter-address?`,
      { cause: error },
    );
  }
  // containerd says so of a name that it does not have, in words that differ between its versions.
  const isAboutName = /snapshotter (argument missing|not (specified|loaded|found))|should be provided/i;
  if (
    (error instanceof InvalidArgumentError || error instanceof FailedPreconditionError) &&
    isAboutName.test(error.message)
  ) {
    const wanted = "want --snapshotter with the name of one of its plugins, such as overlayfs";
    return new InvalidArgumentError(
      `Cannot ask for snapshotter ${JSON.stringify(name)}: ${error.message}; ${wanted}`,
      { cause: error },
    );
  }
  return error;
}
