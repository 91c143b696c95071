import { randomBytes } from "node:crypto";

/** Characters of an id: 25 of base 36 hold 128 bits (BuildKit, identity/randomid.go). */
const length = 25;

/** A new id for a session or a build, in the form of BuildKit's. */
export function newID(): string {
  const number = BigInt(`0x${randomBytes(17).toString("hex")}`);
  return number.toString(36).padStart(length, "0").slice(-length);
}
