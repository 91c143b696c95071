import { daemonFlags } from "./daemon.ts";
import type { FlagSpecs } from "./flags.ts";

/** Flags that every command takes, before its name or after it. */
export const globalFlags = {
  ...daemonFlags,
  help: { short: "h", help: "show this help" },
} as const satisfies FlagSpecs;
