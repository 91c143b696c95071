import { staticTable } from "./static-table.ts";

/** Tells the peer that we keep no table: to be put before a block (RFC 7541, section 6.3). */
export const emptyTable: Buffer = Buffer.of(0x20);

const indexOfField = new Map<string, number>();
const indexOfName = new Map<string, number>();
for (const [position, [name, value]] of staticTable.entries()) {
  indexOfField.set(`${name}\0${value}`, position + 1);
  if (!indexOfName.has(name)) {
    indexOfName.set(name, position + 1);
  }
}

/**
 * Encodes a header block: names and values in turns, names in lower case.
 *
 * It refers to the static table alone and asks for nothing to be kept, so a block means the same on every connection
 * and at every time: it can be made once and sent a million times.
 */
export function encodeFields(raw: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] ?? "";
    const value = raw[index + 1] ?? "";
    const field = indexOfField.get(`${name}\0${value}`);
    if (field !== undefined) {
      parts.push(integer(0x80, 0x7f, field));
      continue;
    }
    const nameIndex = indexOfName.get(name);
    parts.push(nameIndex === undefined ? Buffer.of(0) : integer(0, 0x0f, nameIndex));
    if (nameIndex === undefined) {
      parts.push(...string(name));
    }
    parts.push(...string(value));
  }
  return Buffer.concat(parts);
}

function string(text: string): [Buffer, Buffer] {
  return [integer(0, 0x7f, text.length), Buffer.from(text, "latin1")];
}

/** An integer in the bits of `mask`, beside `pattern`, and in further bytes where it is larger (RFC 7541, section 5.1). */
function integer(pattern: number, mask: number, value: number): Buffer {
  if (value < mask) {
    return Buffer.of(pattern | value);
  }
  const bytes = [pattern | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | 0x80);
  }
  return Buffer.from([...bytes, rest]);
}
