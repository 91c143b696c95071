import { InvalidArgumentError } from "@oci-worker/errdefs";
import { byteString } from "./byte-string.ts";

const [NUL, SPACE, ZERO, SEVEN] = [0x00, 0x20, 0x30, 0x37];

/**
 * Reads a number field of a header: octal digits, or base-256 where the first bit is set (GNU tar manual,
 * "Extensions to the Archive Format").
 *
 * Blanks and NULs around the digits are ignored and a field of nothing else is 0, as every reader has it.
 *
 * @param field its name, for the error.
 * @throws {InvalidArgumentError} for any other byte, and for a number that a double does not hold exactly.
 */
export function readNumber(block: Buffer, offset: number, length: number, field: string): number {
  const isBase256 = (block[offset] ?? 0) >= 0x80;
  const value = isBase256 ? readBase256(block, offset, length) : readOctal(block, offset, length);
  if (Number.isSafeInteger(value)) {
    return value;
  }
  const bytes = JSON.stringify(byteString(block, offset, offset + length));
  throw new InvalidArgumentError(
    Number.isNaN(value)
      ? `Cannot read tar header: ${field} is ${bytes}, want octal digits`
      : `Cannot read tar header: ${field} is ${bytes}, which is out of range`,
  );
}

/** NaN where it is no octal number. */
function readOctal(block: Buffer, offset: number, length: number): number {
  const end = offset + length;
  let at = offset;
  while (at < end && (block[at] === SPACE || block[at] === NUL)) {
    at += 1;
  }
  let value = 0;
  for (; at < end; at += 1) {
    const byte = block[at] ?? NUL;
    if (byte < ZERO || byte > SEVEN) {
      break;
    }
    value = value * 8 + byte - ZERO;
  }
  // A NUL ends the field, whatever follows it; blanks may pad it.
  for (; at < end && block[at] !== NUL; at += 1) {
    if (block[at] !== SPACE) {
      return Number.NaN;
    }
  }
  return value;
}

/** Two's complement, big endian, of all bits but the first, which only marks the encoding. */
function readBase256(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0;
  const isNegative = (first & 0x40) !== 0;
  let value = isNegative ? (first & 0x7f) - 0x80 : first & 0x7f;
  for (let at = offset + 1; at < offset + length; at += 1) {
    value = value * 256 + (block[at] ?? 0);
  }
  return value;
}

/**
 * Writes `value` as octal digits and a NUL.
 *
 * @returns false, having written 0, where the field has not the room: the value then belongs in a PAX record.
 */
export function writeOctal(block: Buffer, offset: number, length: number, value: number): boolean {
  const digits = value.toString(8);
  const fits = value >= 0 && digits.length < length;
  block.write((fits ? digits : "0").padStart(length - 1, "0"), offset, "latin1");
  return fits;
}
