import type { InvalidArgumentError } from "@oci-worker/errdefs";
import { type EntryFields, field } from "./entry-fields.ts";
import { JsonScanner, kinds, nameOfKind } from "./json-scanner.ts";

/** Extended attributes by name. */
export type Xattrs = ReadonlyMap<string, Buffer>;

/** XATTR_NAME_MAX and XATTR_SIZE_MAX (linux/limits.h). */
const [maxNameBytes, maxValueBytes] = [255, 65_536];

const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

/**
 * Reads the attributes of an entry that has some.
 *
 * @param error makes one of what is wrong with them.
 */
export function readXattrs(fields: EntryFields, error: (reason: string) => InvalidArgumentError): Xattrs {
  const kind = fields.kindOf(field.xattrs);
  if (kind !== kinds.object) {
    throw error(`it is ${nameOfKind(kind)}, want an object with texts`);
  }
  const xattrs = new Map<string, Buffer>();
  // It has been read once, so it is JSON and there.
  const scanner = new JsonScanner(fields.scanner.bytes, fields.ends[field.xattrs] ?? 0);
  scanner.at = fields.starts[field.xattrs] ?? 0;
  for (let isMore = scanner.open(true); isMore; isMore = scanner.next(true)) {
    scanner.key();
    const name = scanner.decoded(scanner.textStart, scanner.textEnd);
    if (scanner.kind() !== kinds.text) {
      throw error("it is an object, want an object with texts");
    }
    scanner.text();
    const text = scanner.decoded(scanner.textStart, scanner.textEnd);
    const value = Buffer.from(text, "base64");
    const isName = name !== "" && !name.includes("\0") && Buffer.byteLength(name) <= maxNameBytes;
    if (!isName || !base64.test(text) || value.length > maxValueBytes) {
      throw error(
        `${JSON.stringify(name.slice(0, 100))} is malformed, want a name of at most ${maxNameBytes} bytes ` +
          `and in base64 at most ${maxValueBytes} bytes`,
      );
    }
    xattrs.set(name, value);
  }
  return xattrs;
}
