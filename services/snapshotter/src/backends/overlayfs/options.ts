import { existsSync } from "node:fs";
import { isInUserNamespace } from "@oci-worker/libc/user-namespace";
import { lastOfEach } from "./mount-options.ts";

/** There since Linux 4.13; an older overlayfs does not know the option. */
const indexParameter = "/sys/module/overlay/parameters/index";

/** What is to be known of a host to choose the options of its overlay mounts. */
export interface OverlayHost {
  /** Whether overlayfs can keep an index of lower files, and so may do it by default. */
  readonly hasIndex: boolean;
  /** Whether we run in a user namespace, where the attributes of overlayfs need another name. */
  readonly inUserNamespace: boolean;
}

/** Looks at this host. */
export function overlayHost(): OverlayHost {
  return {
    hasIndex: existsSync(indexParameter),
    inUserNamespace: isInUserNamespace(),
  };
}

/**
 * The sets of options that may work on `host`, the preferred one first: those that we want, and over them
 * `mountOptions`, the operator's.
 *
 * - `index=off`: an index ties an upper directory to the lower ones that it was first mounted on, and the next mount
 *   on others fails with ESTALE. An operator who wants one can have it.
 * - `userxattr`: in a user namespace overlayfs may not write `trusted.*` attributes and writes `user.*` ones
 *   instead, since Linux 5.11. Before that, some kernels were patched to do without.
 */
export function overlayOptionSets(
  { hasIndex, inUserNamespace }: OverlayHost,
  mountOptions: readonly string[],
): string[][] {
  const index = hasIndex ? ["index=off"] : [];
  const without = lastOfEach([...index, ...mountOptions]);
  return inUserNamespace ? [lastOfEach([...index, "userxattr", ...mountOptions]), without] : [without];
}
