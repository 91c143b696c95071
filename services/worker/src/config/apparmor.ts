import { readFileSync } from "node:fs";

/** What AppArmor does to user namespaces that users make (Ubuntu since 23.10, Debian if it is told to). */
export interface AppArmorStanding {
  /** Whether only programs with a profile that says so may make them, and use them. */
  readonly restrictsUserNamespaces: boolean;
  /** The profile that confines this process; empty for none. */
  readonly profile: string;
}

/** Where the kernel tells of it. */
export interface AppArmorPlaces {
  readonly restriction: string;
  /** The first one that can be read counts: where other security modules are stacked, the second is not AppArmor's. */
  readonly labels: readonly string[];
}

const places: AppArmorPlaces = {
  restriction: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
  labels: ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"],
};

/** Asks the kernel. What it does not have, it does not do. */
export function appArmorStanding({ restriction, labels } = places): AppArmorStanding {
  const label = labels.map(readOrEmpty).find((text) => text !== "") ?? "";
  return {
    restrictsUserNamespaces: readOrEmpty(restriction) === "1",
    profile: label.replace(/ \(\w+\)$/, ""),
  };
}

/** Not there, or, without a security module, refused as an invalid argument: either way there is nothing to be told. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8").replace(/[\0\n]+$/, "");
  } catch {
    return "";
  }
}
