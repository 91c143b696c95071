import { InvalidArgumentError } from "@oci-worker/errdefs";

/** So much of a text that makes no sense is quoted. */
const maxQuoted = 100;

/**
 * Refuses texts that the kernel would take for shorter ones, up to their first zero byte: what was looked at would not be what
 * is used.
 *
 * @param what the beginning of the error: what cannot be done.
 * @throws {InvalidArgumentError}
 */
export function refuseZeroBytes(what: string, texts: readonly string[]): void {
  const wrong = texts.find((text) => text.includes("\0"));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`${what}: ${JSON.stringify(wrong.slice(0, maxQuoted))} has a zero byte`);
  }
}
