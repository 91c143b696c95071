import { type JsonScanner, type Kind, kinds, startsWith } from "./json-scanner.ts";

/** What we read of an entry, numbered (stargz-snapshotter, docs/estargz.md, "TOCEntry"; the last two are podman's). */
export const field = {
  name: 0,
  type: 1,
  size: 2,
  modtime: 3,
  linkName: 4,
  mode: 5,
  uid: 6,
  gid: 7,
  offset: 8,
  devMajor: 9,
  devMinor: 10,
  digest: 11,
  chunkOffset: 12,
  chunkSize: 13,
  chunkDigest: 14,
  innerOffset: 15,
  xattrs: 16,
  chunkType: 17,
  endOffset: 18,
} as const;

export type Field = (typeof field)[keyof typeof field];

/** By their numbers. */
export const fieldNames: readonly string[] = Object.keys(field);

/** For each length of a name, the fields whose names have it, with the bytes of those. */
const byLength: readonly (readonly { readonly index: number; readonly bytes: Buffer }[])[] = Array.from(
  { length: 1 + Math.max(...fieldNames.map((name) => name.length)) },
  (_, length) =>
    fieldNames.flatMap((name, index) =>
      name.length === length ? [{ index, bytes: Buffer.from(name) }] : [],
    ),
);

const indexes = new Map<string, number>(fieldNames.map((name, index) => [name, index]));

const unknown = -1;

/**
 * The fields of one entry of a TOC, as they are in the JSON: of what kind each is, and where. There is one of these for
 * all entries. Of a name that comes twice the last counts, as with most readers; others than ours are looked at only for
 * whether they are JSON.
 */
export class EntryFields {
  readonly scanner: JsonScanner;
  /** By number of the field, as are the others. */
  readonly #kinds = new Uint8Array(fieldNames.length);
  /** Of a text without its quotes, of what else is not a number all of it. */
  readonly starts = new Int32Array(fieldNames.length);
  readonly ends = new Int32Array(fieldNames.length);
  /** Whether the bytes of a text are what it means. */
  readonly isPlain = new Uint8Array(fieldNames.length);
  readonly numbers = new Float64Array(fieldNames.length);

  constructor(scanner: JsonScanner) {
    this.scanner = scanner;
  }

  kindOf(index: Field): Kind {
    return (this.#kinds[index] ?? kinds.absent) as Kind;
  }

  /** Takes the object that comes next. */
  read(): void {
    const { scanner } = this;
    const known = this.#kinds;
    known.fill(kinds.absent);
    for (let isMore = scanner.open(true); isMore; isMore = scanner.next(true)) {
      scanner.key();
      const index = this.#fieldHere();
      const kind = scanner.kind();
      if (index === unknown) {
        scanner.skip();
        continue;
      }
      known[index] = kind;
      if (kind === kinds.text) {
        scanner.text();
        this.starts[index] = scanner.textStart;
        this.ends[index] = scanner.textEnd;
        this.isPlain[index] = scanner.isPlain ? 1 : 0;
      } else if (kind === kinds.number) {
        this.numbers[index] = scanner.number();
      } else {
        this.starts[index] = scanner.at;
        scanner.skip();
        this.ends[index] = scanner.at;
      }
    }
  }

  /** A text as the characters that it means; may have halves of surrogates. */
  textOf(index: Field): string {
    return this.scanner.decoded(this.starts[index] ?? 0, this.ends[index] ?? 0);
  }

  /** Which field the text is that the scanner has just read. */
  #fieldHere(): number {
    const { scanner } = this;
    const { textStart, textEnd, bytes } = scanner;
    if (!scanner.isPlain) {
      return indexes.get(scanner.decoded(textStart, textEnd)) ?? unknown;
    }
    for (const candidate of byLength[textEnd - textStart] ?? []) {
      if (startsWith(bytes, textStart, candidate.bytes)) {
        return candidate.index;
      }
    }
    return unknown;
  }
}
