import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Keys and names of clients have a few hundred bytes; the contract knows no limit, memory does. */
const maxKeyBytes = 64 * 1024;

const shownChars = 200;

/** A key or name as it stands in an error. */
export function quote(key: string): string {
  return JSON.stringify(key.length <= shownChars ? key : `${key.slice(0, shownChars)}…`);
}

/**
 * @param what the failing action, for the error.
 * @throws {InvalidArgumentError} if `key` cannot be the `role` ("key", "name") of a snapshot.
 */
export function checkKey(what: string, role: string, key: string): void {
  if (key === "") {
    throw new InvalidArgumentError(`Cannot ${what}: the ${role} is empty`);
  }
  if (key.includes("\0")) {
    throw new InvalidArgumentError(`Cannot ${what}: the ${role} has a NUL character`);
  }
  const bytes = Buffer.byteLength(key);
  if (bytes > maxKeyBytes) {
    throw new InvalidArgumentError(
      `Cannot ${what}: the ${role} has ${bytes} bytes, want at most ${maxKeyBytes}`,
    );
  }
}
