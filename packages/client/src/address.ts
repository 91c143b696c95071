import { InvalidArgumentError } from "@oci-worker/errdefs";

/**
 * The socket path in an address such as `unix:///run/oci-worker/worker.sock`.
 *
 * @throws {InvalidArgumentError} if the address is of another kind.
 */
export function socketPathOf(address: string): string {
  const [, scheme, path = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/s.exec(address) ?? [];
  if (scheme === undefined) {
    throw new InvalidArgumentError(
      `Cannot use address ${JSON.stringify(address)}: address ${address} does not contain proto, you meant unix://${address} ?`,
    );
  }
  if (scheme !== "unix") {
    throw new InvalidArgumentError(
      `Cannot use address ${JSON.stringify(address)}: ${scheme} is not supported, want unix://PATH`,
    );
  }
  if (!path.startsWith("/")) {
    throw new InvalidArgumentError(
      `Cannot use address ${JSON.stringify(address)}: its path is not absolute, want unix:///PATH`,
    );
  }
  return path;
}
