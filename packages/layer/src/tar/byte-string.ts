declare const brand: unique symbol;

/**
 * Text in which every character stands for one byte (latin1): how names travel from the archive to the kernel.
 *
 * A file name is bytes and need not be UTF-8. As text it can be cut, compared and looked up like any other string
 * and still gives back exactly the bytes that came in.
 */
export type ByteString = string & { readonly [brand]: "ByteString" };

const beyondAscii = /[\u0080-\u00ff]/;

/** The bytes from `start` to `end` (not included) of `bytes`. */
export function byteString(bytes: Buffer, start = 0, end = bytes.length): ByteString {
  return bytes.toString("latin1", start, end) as ByteString;
}

/** The bytes from `start` up to the first NUL, or to `end` where there is none. */
export function byteStringToNul(bytes: Buffer, start: number, end: number): ByteString {
  const nul = bytes.indexOf(0, start);
  return byteString(bytes, start, nul === -1 || nul > end ? end : nul);
}

/** The bytes of `name`: those of its UTF-8 if it is text. */
export function byteStringOf(name: string | Buffer): ByteString {
  return byteString(typeof name === "string" ? Buffer.from(name) : name);
}

export function bytesOf(name: ByteString): Buffer {
  return Buffer.from(name, "latin1");
}

/** What file system calls take for `name`: itself where that is the same in UTF-8, which saves a copy, else bytes. */
export function pathOf(name: ByteString): string | Buffer {
  return beyondAscii.test(name) ? bytesOf(name) : name;
}

/** `name` for people: quoted, control characters escaped, no longer than a line. */
export function quoted(name: ByteString): string {
  const text = bytesOf(name).toString();
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
