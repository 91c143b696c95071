/** Options that this snapshotter decides for each mount. */
const ours = ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"];

/**
 * Options that have overlayfs keep in an upper directory what only overlayfs can read: a file without its content, a
 * directory that stands for another one. Whoever makes a layer of that directory (BuildKit and containerd do, by
 * looking into it) would make a broken one.
 *
 * `verity` switches `metacopy` on by itself (Documentation/filesystems/overlayfs.rst).
 */
const breaksDiffs = ["metacopy=on", "redirect_dir=on", "verity=on", "verity=require"];

/**
 * Why `option` cannot be given to every overlay mount, or undefined if it may be. What it means only the kernel knows:
 * the probe mounts with it.
 */
export function objectionTo(option: string): string | undefined {
  if (!/^[^\s,\0]+$/.test(option)) {
    return "it is not one option, want one an entry, without spaces and commas";
  }
  const [name = ""] = option.split("=");
  if (ours.includes(name)) {
    return `the snapshotter sets ${name} itself`;
  }
  if (name === "uidmap" || name === "gidmap") {
    return `${name} comes from the labels of a snapshot`;
  }
  if (breaksDiffs.includes(option)) {
    return "layers that are made of upper directories would lack content";
  }
  return undefined;
}

/** `options` with of each name only the last: the one that the kernel would go by. */
export function lastOfEach(options: readonly string[]): string[] {
  const nameOf = (option: string) => option.split("=")[0];
  return options.filter(
    (option, index) => !options.slice(index + 1).some((later) => nameOf(later) === nameOf(option)),
  );
}
