import type { Mount } from "@oci-worker/mounts/mount";
import { contentOf, type MountableKind } from "../backend.ts";

/** Where overlayfs prepares what it moves into the upper directory. */
export function workOf(directory: string): string {
  return `${directory}/work`;
}

/**
 * The mounts for a snapshot, decided from its place in the chain alone.
 *
 * overlayfs wants at least one lower directory, and refuses a single one that has no upper directory on it, so these
 * two cases are bind mounts.
 *
 * @param directory of the snapshot itself; a view of another one has none, and needs none.
 * @param parents directories of the ancestors, the nearest first: the order that `lowerdir=` wants.
 * @param options of the overlay, such as `index=off`.
 */
export function overlayMounts(
  kind: MountableKind,
  directory: string,
  parents: readonly string[],
  options: readonly string[],
): Mount[] {
  const [nearest, ...others] = parents;
  if (nearest === undefined) {
    return [bind(contentOf(directory), kind === "view" ? "ro" : "rw")];
  }
  if (kind === "view" && others.length === 0) {
    return [bind(contentOf(nearest), "ro")];
  }
  const lower = `lowerdir=${parents.map(contentOf).join(":")}`;
  const own = kind === "active" ? [`workdir=${workOf(directory)}`, `upperdir=${contentOf(directory)}`] : [];
  return [{ type: "overlay", source: "overlay", options: [...options, ...own, lower] }];
}

function bind(source: string, mode: "ro" | "rw"): Mount {
  return { type: "bind", source, options: [mode, "rbind"] };
}
