import type { FlagSpec } from "../../args/flags.ts";

/** The flag of commands that list snapshots, in containerd's filter language, which the server reads. */
export const filterFlag = {
  value: "FILTER",
  multiple: true,
  help: "only those that match, such as kind==active or labels.a~=b; of several flags, any",
} as const satisfies FlagSpec;
