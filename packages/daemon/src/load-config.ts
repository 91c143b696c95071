import { readFile } from "node:fs/promises";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { parse, TomlError, type TomlTable } from "smol-toml";

/**
 * Reads the TOML file `path`.
 *
 * @param required whether the operator named this file; a default one may be absent and counts as empty then.
 * @throws {NotFoundError} if a required file is absent.
 * @throws {InvalidArgumentError} if it is no TOML, with line and column.
 */
export async function loadConfig(path: string, required: boolean): Promise<TomlTable> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      if (!required) {
        return {};
      }
      throw new NotFoundError(`Cannot read config ${path}: there is no such file`, { cause });
    }
    throw cause;
  }
  try {
    return parse(text);
  } catch (cause) {
    if (cause instanceof TomlError) {
      // The library's message goes on with a picture of the line; "failed to parse config" is what upstream says.
      const [what = ""] = cause.message.split("\n");
      throw new InvalidArgumentError(
        `Cannot read config ${path}: failed to parse config: line ${cause.line}, column ${cause.column}: ${what}`,
        { cause },
      );
    }
    throw cause;
  }
}
