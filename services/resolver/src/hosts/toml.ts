import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parse, TomlError, type TomlTable } from "smol-toml";

/**
 * Reads a file of settings that is not our own.
 *
 * @throws {InvalidArgumentError} naming the line that is no TOML. Neither it nor the parser's error, which quotes it, gets
 * out: a header may be a secret.
 */
export function parseToml(text: string): TomlTable {
  try {
    return parse(text);
  } catch (cause) {
    if (cause instanceof TomlError) {
      throw new InvalidArgumentError(`line ${cause.line} is no TOML`);
    }
    throw cause;
  }
}
