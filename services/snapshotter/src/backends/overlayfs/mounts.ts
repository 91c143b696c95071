import type { Mount } from "@oci-worker/mounts/mount";
import { idMapOptions, idMappingOf } from "@oci-worker/snapshots/id-mapping";
import { contentOf, type Mountable } from "../backend.ts";

/** Where overlayfs prepares what it moves into the upper directory. */
export function workOf(directory: string): string {
  return `${directory}/work`;
}

/**
 * The mounts for a snapshot, decided from its place in the chain and its labels alone.
 *
 * overlayfs wants at least one lower directory, and refuses a single one that has no upper directory on it, so these
 * two cases are bind mounts.
 *
 * @param options of the overlay, such as `index=off`.
 */
export function overlayMounts(
  { kind, directory, parents, labels }: Mountable,
  options: readonly string[],
): Mount[] {
  const [nearest, ...others] = parents;
  const idMap = idMapOptions(idMappingOf(labels));
  const bind = (source: string, mode: "ro" | "rw"): Mount[] => [
    { type: "bind", source, options: [...idMap, mode, "rbind"] },
  ];
  if (nearest === undefined) {
    return bind(contentOf(directory), kind === "view" ? "ro" : "rw");
  }
  if (kind === "view" && others.length === 0) {
    return bind(contentOf(nearest), "ro");
  }
  const lower = `lowerdir=${parents.map(contentOf).join(":")}`;
  const own = kind === "active" ? [`workdir=${workOf(directory)}`, `upperdir=${contentOf(directory)}`] : [];
  return [{ type: "overlay", source: "overlay", options: [...options, ...idMap, ...own, lower] }];
}
