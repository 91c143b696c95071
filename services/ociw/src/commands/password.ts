import { Secret } from "@oci-worker/credentials/secret";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Longest password that is read, in bytes: tokens of cloud registries have some thousands. */
const maxPasswordBytes = 64 * 1024;

/**
 * Reads a password from `stdin` to its end; one line break after it is not part of it.
 *
 * @throws {InvalidArgumentError} if there is none, or far too much.
 */
export async function readPassword(stdin: AsyncIterable<Uint8Array | string>): Promise<Secret> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    const buffer = Buffer.from(chunk);
    bytes += buffer.length;
    if (bytes > maxPasswordBytes) {
      throw new InvalidArgumentError(
        `Cannot read password: there are more than ${maxPasswordBytes} bytes on standard input`,
      );
    }
    chunks.push(buffer);
  }
  const password = Buffer.concat(chunks)
    .toString()
    .replace(/\r?\n$/, "");
  if (password === "") {
    throw new InvalidArgumentError("Cannot read password: standard input is empty");
  }
  return new Secret(password);
}
