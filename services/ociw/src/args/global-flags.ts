import type { FlagSpecs } from "./flags.ts";

/** Where oci-worker listens unless it is told otherwise. */
const defaultAddress = "unix:///run/oci-worker/worker.sock";

/** Flags that every command takes, before its name or after it. */
export const globalFlags = {
  addr: {
    value: "ADDRESS",
    help: `address of the daemon (default $BUILDKIT_HOST, or ${defaultAddress})`,
  },
  help: { short: "h", help: "show this help" },
} as const satisfies FlagSpecs;

/** The daemon's address: the flag, else the environment, else the default. */
export function addressOf(flag: string | undefined, environment: NodeJS.ProcessEnv): string {
  return flag ?? (environment["BUILDKIT_HOST"] || defaultAddress);
}
