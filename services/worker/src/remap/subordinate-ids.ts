import { FailedPreconditionError } from "@oci-worker/errdefs";
import { parseIDMap } from "@oci-worker/mounts/id-map";

/** A user of the host who has been given ids. */
export interface SubordinateOwner {
  readonly name: string;
  readonly uid: number;
}

const number = /^\d{1,10}$/;

/**
 * The ids that a file such as /etc/subuid gives to `owner`, by name or by number (subuid(5)), as ranges that follow each other
 * from 0 on: `0:100000:65536,65536:300000:1000`.
 *
 * @param path of the file, for errors.
 * @param text what it holds.
 * @throws {FailedPreconditionError} naming the file if it has none for them, or not such as the kernel takes.
 */
export function subordinateIDs(path: string, text: string, owner: SubordinateOwner): string {
  const { name, uid } = owner;
  const ranges: string[] = [];
  let inside = 0;
  for (const [index, line] of text.split("\n").entries()) {
    const [who, start = "", count = "", ...rest] = line.trim().split(":");
    if (who !== name && who !== String(uid)) {
      continue;
    }
    if (!number.test(start) || !number.test(count) || rest.length > 0) {
      throw new FailedPreconditionError(
        `Cannot remap steps to user ${name}: line ${index + 1} of ${path} is ${JSON.stringify(line.slice(0, 100))}, want NAME:FIRST:COUNT`,
      );
    }
    if (Number(start) === 0) {
      throw new FailedPreconditionError(
        `Cannot remap steps to user ${name}: line ${index + 1} of ${path} gives them the host's root, want other ids`,
      );
    }
    ranges.push(`${inside}:${start}:${count}`);
    inside += Number(count);
  }
  if (ranges.length === 0) {
    throw new FailedPreconditionError(
      `Cannot remap steps to user ${name}: ${path} has no ids for them, want a line such as ${name}:100000:65536`,
    );
  }
  const map = ranges.join(",");
  try {
    parseIDMap(`the ids of ${path}`, map);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot remap steps to user ${name}: ${why}`, { cause });
  }
  return map;
}
