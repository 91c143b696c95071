import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, byteStringToNul, quoted } from "./byte-string.ts";
import { blockBytes, type Header, typeFlags } from "./header.ts";
import { type PaxRecords, readPax } from "./pax.ts";

/** What extension headers say about the entry after them. */
export interface Extensions {
  readonly pax?: PaxRecords;
  readonly gnuLongName?: ByteString;
  readonly gnuLongLink?: ByteString;
}

/** The longest name and the largest set of PAX records that we take into memory. */
const maxBytes = 1024 * 1024;

const kindOf: Readonly<Record<string, keyof Extensions>> = {
  [typeFlags.pax]: "pax",
  [typeFlags.gnuLongName]: "gnuLongName",
  [typeFlags.gnuLongLink]: "gnuLongLink",
};

/** The body of an extension header, which comes in blocks. */
export class ExtensionBody {
  readonly #kind: keyof Extensions;
  readonly #body: Buffer;
  #filledBytes = 0;

  private constructor(kind: keyof Extensions, sizeBytes: number) {
    this.#kind = kind;
    this.#body = Buffer.allocUnsafe(sizeBytes);
  }

  /**
   * The body that follows `header`; undefined if that is no extension header.
   *
   * @throws {InvalidArgumentError} if it is larger than what we take into memory.
   */
  static of(header: Header): ExtensionBody | undefined {
    const kind = kindOf[header.typeFlag];
    return kind === undefined ? undefined : new ExtensionBody(kind, extensionBytes(header, maxBytes));
  }

  get isWhole(): boolean {
    return this.#filledBytes === this.#body.length;
  }

  addBlock(block: Buffer, offset: number): void {
    this.#filledBytes += block.copy(this.#body, this.#filledBytes, offset, offset + blockBytes);
  }

  /** `extensions` and what this one says. */
  addedTo(extensions: Extensions): Extensions {
    const body = this.#body;
    const said = this.#kind === "pax" ? readPax(body) : byteStringToNul(body, 0, body.length);
    return { ...extensions, [this.#kind]: said };
  }
}

/** The size of what follows an extension header, if it is no more than `max`. */
export function extensionBytes(header: Header, max: number): number {
  if (header.sizeBytes >= 0 && header.sizeBytes <= max) {
    return header.sizeBytes;
  }
  throw new InvalidArgumentError(
    `Cannot read tar: the extension header ${quoted(header.name)} has ${header.sizeBytes} bytes, want at most ${max}`,
  );
}
