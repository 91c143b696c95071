import { type FileTable, typeBits, typeMask } from "./file-table.ts";
import type { Directory, Node } from "./node.ts";

const kinds = new Map<number, Node["kind"]>(
  Object.entries(typeBits).map(([kind, bits]) => [bits, kind as Node["kind"]]),
);

const noXattrs: ReadonlyMap<string, Uint8Array> = new Map();

/** The files of a table as objects, for tests: the inverse of `tableOf`. */
export function treeOf(files: FileTable): Directory {
  const known = new Map<number, Node>();
  const root = nodeOf(files, 0, known);
  if (root.kind !== "directory") {
    throw new Error("the root is a directory");
  }
  return root;
}

function nodeOf(files: FileTable, file: number, known: Map<number, Node>): Node {
  const existing = known.get(file);
  if (existing !== undefined) {
    return existing;
  }
  const mode = files.modes[file] ?? 0;
  const start = files.starts[file] ?? 0;
  const size = files.sizes[file] ?? 0;
  const kind = kinds.get(mode & typeMask) ?? "socket";
  const contentOf = () => {
    switch (kind) {
      case "directory":
        return { entries: entriesOf(files, file, known) };
      case "file":
        return { sizeBytes: size, dataBlock: start };
      case "symbolic-link":
        return { target: files.texts.toString("utf8", start, start + size) };
      case "character-device":
      case "block-device":
        return { major: (start >>> 8) & 0xfff, minor: (start & 0xff) | ((start >>> 12) & 0xfff00) };
      case "fifo":
      case "socket":
        return {};
    }
  };
  const node = { ...attributesOf(files, file), kind, ...contentOf() } as Node;
  known.set(file, node);
  return node;
}

function attributesOf({ modes, uids, gids, seconds, nanos, xattrs }: FileTable, file: number) {
  return {
    permissions: (modes[file] ?? 0) & 0o7777,
    uid: uids[file] ?? 0,
    gid: gids[file] ?? 0,
    modifiedNs: BigInt(seconds[file] ?? 0) * 10n ** 9n + BigInt(nanos[file] ?? 0),
    xattrs: xattrs.get(file) ?? noXattrs,
  };
}

function entriesOf(files: FileTable, directory: number, known: Map<number, Node>): Map<string, Node> {
  const entries = new Map<string, Node>();
  const end = files.firstNames[directory + 1] ?? 0;
  for (let name = files.firstNames[directory] ?? 0; name < end; name += 1) {
    const start = files.nameStarts[name] ?? 0;
    const text = files.texts.toString("utf8", start, start + (files.nameLengths[name] ?? 0));
    entries.set(text, nodeOf(files, files.nameFiles[name] ?? 0, known));
  }
  return entries;
}
