import type { FlagSpec, ParsedArgs } from "./flags.ts";
import { UsageError } from "./usage-error.ts";

/** Where oci-snapshotter listens unless it is told otherwise. */
const defaultAddress = "/run/oci-worker/snapshotter.sock";

/** Tells oci-snapshotter where to listen, and so its clients where it does. */
const variable = "OCI_WORKER_SNAPSHOTTER_ADDRESS";

/** For every command that speaks to a snapshotter and not to a worker. */
export const snapshotterAddressFlag = {
  value: "SOCKET",
  help: `socket of the snapshotter (default $${variable}, or ${defaultAddress})`,
} as const satisfies FlagSpec;

/**
 * Path of the snapshotter's socket: the flag `snapshotter-address`, else the environment, else the default.
 *
 * @throws {UsageError} if it is an address of another kind.
 */
export function snapshotterAddressOf(flags: ParsedArgs["flags"], environment: NodeJS.ProcessEnv): string {
  const address = flags["snapshotter-address"]?.[0] ?? (environment[variable] || defaultAddress);
  const path = address.replace(/^unix:\/\//, "");
  if (path === "" || /^[a-z][a-z0-9+.-]*:\/\//.test(path)) {
    throw new UsageError(
      `Cannot use snapshotter address ${JSON.stringify(address)}: want a path, with or without unix:// before it`,
    );
  }
  return path;
}
