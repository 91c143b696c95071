import type { Info } from "@oci-worker/snapshots/snapshotter";
import { byAge } from "./description.ts";

/** A snapshot and its place in the tree of those above the same one. */
export interface Placed {
  readonly info: Info;
  /** Of each level from the root down to this one: whether more follow on that level. Empty for a root. */
  readonly more: readonly boolean[];
}

/**
 * `infos` in the order of a drawing: each one before those that have it as their parent, the older before the younger.
 *
 * One whose parent is not among them is a root. Depth is not bounded by the stack, and parents that go in a circle, which
 * no snapshotter should have, are all told of.
 *
 * @param top only this one and what is above it; undefined for all.
 */
export function forestOf(infos: readonly Info[], top?: string): Placed[] {
  const names = new Set(infos.map(({ name }) => name));
  const children = childrenOf(infos);
  const isRoot = ({ name, parent }: Info): boolean =>
    top === undefined ? parent === undefined || !names.has(parent) : name === top;
  const placed: Placed[] = [];
  const left = new Map(infos.toSorted(byAge).map((info) => [info.name, info]));
  const place = (root: Info): void => {
    const waiting: Placed[] = [{ info: root, more: [] }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (!left.delete(next.info.name)) {
        continue;
      }
      placed.push(next);
      const { more } = next;
      const above = children.get(next.info.name) ?? [];
      const siblings = above.map((info, index) => ({ info, more: [...more, index + 1 < above.length] }));
      waiting.push(...siblings.reverse());
    }
  };
  for (const info of [...left.values()].filter(isRoot)) {
    place(info);
  }
  for (const info of top === undefined ? [...left.values()] : []) {
    place(info);
  }
  return placed;
}

/** Those of `infos` that have the same parent, by its name, the oldest first. */
function childrenOf(infos: readonly Info[]): Map<string, Info[]> {
  const children = new Map<string, Info[]>();
  for (const info of infos.toSorted(byAge)) {
    if (info.parent !== undefined) {
      const siblings = children.get(info.parent);
      if (siblings === undefined) {
        children.set(info.parent, [info]);
      } else {
        siblings.push(info);
      }
    }
  }
  return children;
}
