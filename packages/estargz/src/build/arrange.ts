import { type ByteString, bytesOf } from "@oci-worker/layer/tar/byte-string";
import type { TarEntry } from "@oci-worker/layer/tar/entry";
import { cleanName, parted } from "../toc/name.ts";
import { noPrefetchLandmark, prefetchLandmark, tocName } from "../toc/special-names.ts";
import { InexpressibleError } from "./inexpressible.ts";
import type { SpooledEntry } from "./spool.ts";

/** An entry as it goes into the new archive. */
export interface ArrangedEntry {
  readonly entry: TarEntry;
  /** Of its content in the spool. */
  readonly position: number;
  /** As in a TOC: relative to the root, which is "". */
  readonly path: string;
  /** Of a hard link, the path of the file that it is to. */
  readonly target: string | undefined;
}

export interface Arrangement {
  /** Those that shall be there before a container starts. */
  readonly first: readonly ArrangedEntry[];
  readonly rest: readonly ArrangedEntry[];
  /** Paths that were to come first and are not in the layer. */
  readonly missing: readonly string[];
}

/** An entry and the one that it is a hard link to. */
interface Indexed {
  readonly entry: TarEntry;
  readonly position: number;
  readonly path: string;
  readonly source: Indexed | undefined;
}

/** What an earlier conversion has left is made anew. */
const madeHere: ReadonlySet<string> = new Set([tocName, prefetchLandmark, noPrefetchLandmark]);

/**
 * Puts the entries of an archive into the order of the new one: those at `priorities`, each with what has to come
 * before it, in the order given; then all others in the order that they have.
 *
 * Of entries with one name the last stays. A hard link whose target has been replaced since becomes the file that the
 * target was, as unpacking would have it.
 *
 * @throws {InexpressibleError} for what a TOC cannot say: names that are not UTF-8, links out of the layer.
 */
export function arrange(entries: readonly SpooledEntry[], priorities: readonly string[]): Arrangement {
  const live = index(entries);
  const resolved = resolveLinks(live);
  const order = new Map<string, ArrangedEntry>();
  const missing: string[] = [];
  for (const priority of priorities) {
    const path = cleanName(priority);
    if (resolved.has(path)) {
      moveAhead(path, resolved, order);
    } else if (path !== "") {
      missing.push(priority);
    }
  }
  const rest = new Map<string, ArrangedEntry>(order);
  for (const path of resolved.keys()) {
    moveAhead(path, resolved, rest);
  }
  return { first: [...order.values()], rest: [...rest.values()].slice(order.size), missing };
}

/** The last entry of each path, in the order in which those came. */
function index(entries: readonly SpooledEntry[]): Map<string, Indexed> {
  const live = new Map<string, Indexed>();
  for (const { entry, position } of entries) {
    const path = cleanName(textOf("name", entry.name));
    requireText(entry);
    if (madeHere.has(path)) {
      continue;
    }
    const source = entry.type === "hard link" ? sourceOf(entry, path, live) : undefined;
    if (source?.path === path) {
      continue;
    }
    if (entry.type !== "directory" && live.get(path)?.entry.type === "directory") {
      removeBeneath(path, live);
    }
    // To be the last, not where the first was.
    live.delete(path);
    live.set(path, { entry, position, path, source });
  }
  for (const path of live.keys()) {
    requireDirectories(path, live);
  }
  return live;
}

function removeBeneath(path: string, live: Map<string, Indexed>): void {
  for (const other of [...live.keys()].filter((candidate) => candidate.startsWith(`${path}/`))) {
    live.delete(other);
  }
}

/** A tar may put files through a link, or wherever an unpacker happens to put them. A TOC has no such thing. */
function requireDirectories(path: string, live: ReadonlyMap<string, Indexed>): void {
  for (let at = path; at !== ""; ) {
    at = parted(at).parent;
    const above = live.get(at)?.entry.type;
    if (above === "directory") {
      // Which has been or will be looked at itself.
      return;
    }
    if (above !== undefined) {
      throw new InexpressibleError(
        `${JSON.stringify(path.slice(0, 200))} is beneath ${JSON.stringify(at.slice(0, 200))}, ` +
          `which is a ${above}, want a directory`,
      );
    }
  }
}

function sourceOf(entry: TarEntry, path: string, live: ReadonlyMap<string, Indexed>): Indexed {
  const target = cleanName(textOf("linkName", entry.linkName));
  const found = live.get(target);
  const source = found?.source ?? found;
  if (source === undefined || source.entry.type === "directory") {
    throw new InexpressibleError(
      `${JSON.stringify(path.slice(0, 200))} is a hard link to ${JSON.stringify(target.slice(0, 200))}, ` +
        "want a file that stands before it in the layer",
    );
  }
  return source;
}

/** A TOC is JSON, so everything in it is text. */
function requireText({ linkName, xattrs }: TarEntry): void {
  textOf("linkName", linkName);
  for (const { name } of xattrs) {
    textOf("attribute", name);
  }
}

function textOf(field: "name" | "linkName" | "attribute", value: ByteString): string {
  const bytes = bytesOf(value);
  const text = bytes.toString();
  if (!Buffer.from(text).equals(bytes)) {
    throw new InexpressibleError(
      `the ${field} ${JSON.stringify(text.slice(0, 200))} is not UTF-8, which a TOC cannot say`,
    );
  }
  return text;
}

/** Gives every hard link a target that is still there. */
function resolveLinks(live: ReadonlyMap<string, Indexed>): Map<string, ArrangedEntry> {
  const heirs = new Map<Indexed, string>();
  const resolved = new Map<string, ArrangedEntry>();
  for (const indexed of live.values()) {
    const { entry, position, path, source } = indexed;
    if (source === undefined) {
      resolved.set(path, { entry, position, path, target: undefined });
      continue;
    }
    const target = live.get(source.path) === source ? source.path : heirs.get(source);
    if (target === undefined) {
      heirs.set(source, path);
      const heir = { ...source.entry, name: entry.name };
      resolved.set(path, { entry: heir, position: source.position, path, target: undefined });
    } else {
      resolved.set(path, { entry, position, path, target });
    }
  }
  return resolved;
}

/** Adds the entry at `path` to `order`, and before it the directories that it is in and what it is a link to. */
function moveAhead(
  path: string,
  resolved: ReadonlyMap<string, ArrangedEntry>,
  order: Map<string, ArrangedEntry>,
): void {
  const needed: ArrangedEntry[] = [];
  const add = (at: string): void => {
    const found = resolved.get(at);
    if (found !== undefined && !order.has(at)) {
      needed.push(found);
    }
    if (at !== "") {
      add(parted(at).parent);
    }
    if (found?.target !== undefined && !order.has(found.target)) {
      add(found.target);
    }
  };
  add(path);
  for (const entry of needed.reverse()) {
    order.set(entry.path, entry);
  }
}
