import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Ids that follow each other, and those that they are shown as (user_namespaces(7), "uid_map"). */
interface IDRange {
  /** First id inside: in a container, or on the disk. */
  readonly inside: number;
  /** First id outside: on the host. */
  readonly outside: number;
  readonly size: number;
}

/** Which ids are shown as which. */
export type IDMap = readonly IDRange[];

const rangesPattern = /^\d{1,10}:\d{1,10}:\d{1,10}(?:,\d{1,10}:\d{1,10}:\d{1,10})*$/;

/** No range may reach 4294967295, which stands for "no id"; the kernel refuses it. */
const endOfIDs = 2 ** 32 - 1;

/** The kernel takes no more lines in a uid_map (user_namespaces(7)). */
const maxRanges = 340;

/** And no more than fits into a page of memory, written as lines of just this length. */
const maxChars = 4094;

/**
 * Reads a map of ids as containerd writes it, `INSIDE:OUTSIDE:SIZE[,INSIDE:OUTSIDE:SIZE...]`, and refuses all that the
 * kernel would refuse.
 *
 * @param name what holds the text, for the error.
 * @throws {InvalidArgumentError} naming it.
 */
export function parseIDMap(name: string, text: string): IDMap {
  const wrong = (why: string) =>
    new InvalidArgumentError(
      `Cannot use ${name} ${JSON.stringify(text.slice(0, 200))}: ${why}, want ranges as 0:100000:65536, separated by commas`,
    );
  if (text.length > maxChars) {
    throw wrong(`it has ${text.length} characters, the kernel takes ${maxChars}`);
  }
  if (!rangesPattern.test(text)) {
    throw wrong("it is no list of ranges");
  }
  const ranges = text.split(",").map((range) => {
    const [inside = 0, outside = 0, size = 0] = range.split(":").map(Number);
    return { inside, outside, size };
  });
  if (ranges.length > maxRanges) {
    throw wrong(`it has ${ranges.length} ranges, the kernel takes ${maxRanges}`);
  }
  for (const { inside, outside, size } of ranges) {
    if (size === 0 || inside + size > endOfIDs || outside + size > endOfIDs) {
      throw wrong(`the range ${inside}:${outside}:${size} is empty or goes beyond id ${endOfIDs - 1}`);
    }
  }
  if (overlap(ranges, ({ inside }) => inside) || overlap(ranges, ({ outside }) => outside)) {
    throw wrong("two ranges overlap");
  }
  return ranges;
}

/** What the id `inside` is shown as; undefined if the map has nothing for it. */
export function outsideID(map: IDMap, inside: number): number | undefined {
  const range = map.find((each) => inside >= each.inside && inside < each.inside + each.size);
  return range && range.outside + inside - range.inside;
}

function overlap(map: IDMap, start: (range: IDRange) => number): boolean {
  const sorted = map.toSorted((a, b) => start(a) - start(b));
  return sorted.some((range, index) => {
    const before = sorted[index - 1];
    return before !== undefined && start(before) + before.size > start(range);
  });
}
