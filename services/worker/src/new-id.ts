import { randomBytes } from "node:crypto";

/** Characters of a number to the base 36, as BuildKit's ids have them. */
const length = 25;

/** A random id of 25 characters of a-z and 0-9, about 128 bits: the form of BuildKit's ids for everything. */
export function newId(): string {
  const number = BigInt(`0x${randomBytes(20).toString("hex")}`);
  return number.toString(36).padStart(length, "0").slice(-length);
}
