import { maxComponentBytes, maxPathBytes } from "./name.ts";

const [slash, dot] = [0x2f, 0x2e];

const none: Buffer = Buffer.alloc(0);

/** A path relative to the root, as bytes of something longer: without empty components, "." and "..". The root is "". */
export class PathBytes {
  bytes: Buffer = none;
  start = 0;
  end = 0;
  /** Where its last component begins. */
  baseStart = 0;

  /**
   * Makes it what stands at `start` to `end` of `bytes`, which are UTF-8, less "./" in front and "/" behind.
   *
   * @returns whether that is such a path. If not, it has to be made one: see {@link cleanName}.
   */
  set(bytes: Buffer, start: number, end: number): boolean {
    const from = start + (end - start > 1 && bytes[start] === dot && bytes[start + 1] === slash ? 2 : 0);
    const to = end > from && bytes[end - 1] === slash ? end - 1 : end;
    this.bytes = bytes;
    this.start = from;
    this.end = to;
    this.baseStart = from;
    if (from >= to) {
      // "./" is the root; what was "/" as well.
      return true;
    }
    let component = from;
    for (let at = from; at <= to; at += 1) {
      const byte = at === to ? slash : (bytes[at] ?? 0);
      if (byte === slash) {
        if (!isComponent(bytes, component, at)) {
          return false;
        }
        this.baseStart = component;
        component = at + 1;
      } else if (byte === 0) {
        return false;
      }
    }
    return to - from <= maxPathBytes;
  }

  /** The same with bytes of its own. */
  copy(): PathBytes {
    const path = new PathBytes();
    path.bytes = Buffer.from(this.bytes.subarray(this.start, this.end));
    path.end = this.end - this.start;
    path.baseStart = this.baseStart - this.start;
    return path;
  }

  /** For people. */
  toString(): string {
    return this.bytes.toString("utf8", this.start, this.end);
  }
}

function isComponent(bytes: Buffer, start: number, end: number): boolean {
  const length = end - start;
  if (length === 0 || length > maxComponentBytes) {
    return false;
  }
  const isDots = bytes[start] === dot && (length === 1 || (length === 2 && bytes[start + 1] === dot));
  return !isDots;
}
