/** The latest time that the kernel counts in nanoseconds (ktime_t). */
const maxNs = 2n ** 63n - 1n;

/** A time as files of a layer get it, as containerd gives it: 1970 for what the kernel cannot count. */
export function countableNs(ns: bigint): bigint {
  return ns >= 0n && ns <= maxNs ? ns : 0n;
}

/**
 * Why an image may not give its files the attribute `name`, undefined if it may: by some, overlayfs and others keep
 * their own books.
 */
export function reservedFor(name: string): string | undefined {
  if (name.startsWith("trusted.")) {
    return "trusted attributes are the host's";
  }
  return name.startsWith("user.overlay.") ? "overlayfs keeps its books there" : undefined;
}
