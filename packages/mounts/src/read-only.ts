import type { Mount } from "./mount.ts";

/** Options of an overlay that make no sense, or harm, without an upper directory. */
const ofUpper = /^(upperdir=|workdir=|volatile$|rw$)/;

/** What maps ids, by containerd's name. */
const idMapped = /^[ug]idmap=/;

/**
 * The same view as `mounts` give, for reading only.
 *
 * An overlay becomes one without an upper directory, which is its first lower one then: the kernel does not want one upper
 * directory in two mounts, and the unmount of a writable overlay waits until all that anybody has written is on disk.
 */
export function readOnlyMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    // Of an overlay with mapped ids the upper directory is the one that is not mapped, so it cannot be a lower one.
    const layers = mount.options.some((option) => idMapped.test(option)) ? undefined : overlayLayers(mount);
    if (layers === undefined) {
      return { ...mount, options: [...mount.options.filter((option) => option !== "rw"), "ro"] };
    }
    const kept = mount.options.filter((option) => !ofUpper.test(option) && !option.startsWith("lowerdir="));
    if (layers.length === 1) {
      // overlayfs refuses a single lower directory.
      return { type: "bind", source: layers[0] ?? "", options: ["rbind", "ro"] };
    }
    return { ...mount, options: [...kept, `lowerdir=${layers.join(":")}`] };
  });
}

/**
 * The directories of which a mount shows the sum, the uppermost first: the upper directory and the lower ones of an overlay,
 * the source of a bind mount.
 *
 * @returns undefined for any other mount, and for an overlay with paths that cannot be told apart.
 */
export function layersOf(mount: Mount): string[] | undefined {
  if (mount.type === "bind" || mount.options.some((option) => option === "bind" || option === "rbind")) {
    return [mount.source];
  }
  return overlayLayers(mount);
}

function overlayLayers({ type, options }: Mount): string[] | undefined {
  if (!/(^|[.-])overlay(fs)?$/.test(type)) {
    return undefined;
  }
  const value = (name: string) =>
    options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const [upper, lower] = [value("upperdir"), value("lowerdir")];
  // A backslash escapes a colon in a name, and a double colon begins directories of data only.
  if (lower === undefined || lower.includes("\\") || lower.includes("::")) {
    return undefined;
  }
  return [...(upper === undefined ? [] : [upper]), ...lower.split(":")];
}
