import { type NameTable, none } from "./name-table.ts";
import { type GrowingNodes, nodeTypes } from "./node-table.ts";

/** Names of files that say what is gone (OCI image-spec, layer.md, "Whiteouts"). */
const [whiteoutPrefix, opaqueName, reservedPrefix] = [".wh.", ".wh..wh..opq", ".wh..wh."];

const prefixBytes = Buffer.from(whiteoutPrefix);

/** Whether a name begins as that of a whiteout. */
export function isWhiteout({ texts, starts, lengths }: NameTable, name: number): boolean {
  const start = starts[name] ?? 0;
  return (
    texts[start] === prefixBytes[0] &&
    (lengths[name] ?? 0) >= prefixBytes.length &&
    prefixBytes.compare(texts, start, start + prefixBytes.length) === 0
  );
}

/**
 * Turns the files whose names begin with `.wh.` into what they mean: nodes that hide, and opaque directories.
 *
 * A file that the same layer has is not hidden by it, as with stargz-snapshotter; a directory then is opaque, which
 * there it is not. Other reserved names are left out.
 *
 * @param whiteouts their names.
 */
export function applyWhiteouts(whiteouts: readonly number[], names: NameTable, nodes: GrowingNodes): void {
  const hidden = whiteouts.filter((name) => (names.children[name] ?? none) !== none);
  for (const name of hidden) {
    const from = names.children[name] ?? none;
    const parent = names.parents[name] ?? 0;
    const start = names.starts[name] ?? 0;
    const end = start + (names.lengths[name] ?? 0);
    names.children[name] = none;
    const text = names.texts.toString("latin1", start, end);
    if (text === opaqueName) {
      nodes.opaque.add(parent);
    } else if (!text.startsWith(reservedPrefix) && text !== whiteoutPrefix) {
      hide(names, nodes, { parent, start: start + whiteoutPrefix.length, end, from });
    }
  }
}

function hide(
  names: NameTable,
  nodes: GrowingNodes,
  { parent, start, end, from }: { parent: number; start: number; end: number; from: number },
): void {
  const real = names.find(parent, names.texts, start, end);
  const child = real === none ? none : (names.children[real] ?? none);
  if (child !== none) {
    if (nodes.types[child] === nodeTypes.directory) {
      nodes.opaque.add(child);
    }
    return;
  }
  const whiteout = nodes.add("whiteout");
  nodes.seconds[whiteout] = nodes.seconds[from] ?? 0;
  nodes.nanos[whiteout] = nodes.nanos[from] ?? 0;
  if (real === none) {
    names.add(parent, names.texts, start, end, whiteout);
  } else {
    names.children[real] = whiteout;
  }
}
