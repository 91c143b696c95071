import { InvalidArgumentError } from "@oci-worker/errdefs";
import { cleanName } from "@oci-worker/estargz/name";
import { type Digest, isDigest } from "@oci-worker/oci/digest";

/** A file that a container reads, as somebody has recorded it. */
export interface RecordedFile {
  /** Relative to the root. */
  readonly path: string;
  /** The layer that it was read from, where the record says so. */
  readonly layer: { readonly manifestDigest: Digest; readonly index: number } | undefined;
}

/** Longest record that is read, in bytes: a hundred thousand files. */
export const maxRecordBytes: number = 32 * 1024 * 1024;

/**
 * Reads a record: one path a line, or one JSON object a line as `ctr-remote image optimize --record-out` writes them, with
 * `path`, and perhaps `manifestDigest` and `layerIndex`. Empty lines are passed over, and what came before.
 *
 * @throws {InvalidArgumentError} naming the line at fault.
 */
export function parseRecord(text: string): RecordedFile[] {
  const files = new Map<string, RecordedFile>();
  for (const [index, line] of text.split("\n").entries()) {
    const content = line.replace(/\r$/, "");
    if (content.trim() === "") {
      continue;
    }
    const file = parseLine(content, (reason) => {
      throw new InvalidArgumentError(`Cannot read record: line ${index + 1}: ${reason}`);
    });
    const key = JSON.stringify([file.path, file.layer]);
    if (file.path !== "" && !files.has(key)) {
      files.set(key, file);
    }
  }
  return [...files.values()];
}

function parseLine(line: string, fail: (reason: string) => never): RecordedFile {
  if (!line.startsWith("{")) {
    return { path: parsePath(line, fail), layer: undefined };
  }
  let entry: Readonly<Record<string, unknown>>;
  try {
    entry = JSON.parse(line);
  } catch {
    return fail("it is no JSON");
  }
  const { path: text, manifestDigest, layerIndex } = entry;
  if (typeof text !== "string" || text === "") {
    return fail("it has no path");
  }
  const path = parsePath(text, fail);
  if (layerIndex === undefined || manifestDigest === undefined || manifestDigest === "") {
    return { path, layer: undefined };
  }
  if (typeof manifestDigest !== "string" || !isDigest(manifestDigest)) {
    return fail("its manifestDigest is no digest");
  }
  if (!Number.isSafeInteger(layerIndex) || Number(layerIndex) < 0) {
    return fail("its layerIndex is no whole number of at least 0");
  }
  return { path, layer: { manifestDigest, index: Number(layerIndex) } };
}

function parsePath(text: string, fail: (reason: string) => never): string {
  try {
    return cleanName(text);
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

/** Which of the files of a record each layer of one image is to have first. */
export class Priorities {
  readonly #manifestDigest: Digest;
  readonly #layers: number;
  /** Not yet found in any layer. */
  readonly #wanted: Set<RecordedFile>;

  /** @param layers how many the image has. */
  constructor(files: readonly RecordedFile[], manifestDigest: Digest, layers: number) {
    this.#manifestDigest = manifestDigest;
    this.#layers = layers;
    this.#wanted = new Set(files);
  }

  /**
   * What to ask the layer `index` for, in the order of the record. Ask the layer at the top first: a file that several layers
   * have is read from that one.
   */
  for(index: number): string[] {
    return [...this.#wanted].filter((file) => this.#isFor(file, index)).map(({ path }) => path);
  }

  /** Says that the layer `index` was asked, and has not got `missing`. */
  asked(index: number, missing: readonly string[]): void {
    const absent = new Set(missing);
    for (const file of [...this.#wanted]) {
      if (this.#isFor(file, index) && !absent.has(file.path)) {
        this.#wanted.delete(file);
      }
    }
  }

  /** Paths that no layer has that was asked. */
  get missing(): string[] {
    return [...this.#wanted].map(({ path }) => path);
  }

  /** What a record says about the layers of another image is of no use, but its paths may be. */
  #isFor({ layer }: RecordedFile, index: number): boolean {
    const isOfThisImage =
      layer !== undefined && layer.manifestDigest === this.#manifestDigest && layer.index < this.#layers;
    return !isOfThisImage || layer.index === index;
  }
}
