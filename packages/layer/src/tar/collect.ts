import type { TarEntry } from "./entry.ts";
import { TarReader } from "./reader.ts";

/** An entry and its content, holes filled with zeros. */
export interface Collected {
  readonly entry: TarEntry;
  readonly content: Buffer;
  /** Where pieces of the content began: what is not covered by them was a hole. */
  readonly segments: readonly number[];
}

/** Reads a whole archive into memory, for tests. What it throws is the reader's. */
export function collect(pieces: Iterable<Uint8Array>): Collected[] {
  const collected: Collected[] = [];
  let current: { entry: TarEntry; content: Buffer; segments: number[]; endBytes: number } | undefined;
  const reader = new TarReader({
    entry(entry) {
      current = { entry, content: Buffer.alloc(entry.sizeBytes), segments: [], endBytes: 0 };
    },
    content(bytes, position) {
      if (current === undefined) {
        throw new Error("content comes without an entry");
      }
      bytes.copy(current.content, position);
      if (position !== current.endBytes || position === 0) {
        current.segments.push(position);
      }
      current.endBytes = position + bytes.length;
    },
    entryEnd() {
      if (current === undefined) {
        throw new Error("an entry ends that has not begun");
      }
      const { entry, content, segments } = current;
      collected.push({ entry, content, segments });
      current = undefined;
    },
  });
  for (const piece of pieces) {
    reader.write(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
  }
  reader.end();
  return collected;
}
