import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, quoted } from "../tar/byte-string.ts";
import { baseOf, joined, parentOf } from "./entry-path.ts";

/** What an entry says that lower layers have and this one has not (OCI image-spec, layer.md, "Whiteouts"). */
export type Whiteout =
  /** `path` and all beneath it. */
  | { readonly kind: "removal"; readonly path: ByteString }
  /** Everything in `directory` that is not of this layer. */
  | { readonly kind: "opaque"; readonly directory: ByteString };

/** Begins the name of an entry that says of another that it is gone. */
export const whiteoutPrefix = ".wh.";
const opaqueMarker = ".wh..wh..opq";

/**
 * The whiteout that an entry at `path` is, whatever its type; undefined if it is an ordinary entry.
 *
 * @throws {InvalidArgumentError} if it would remove its own directory or one above that.
 */
export function whiteoutAt(path: ByteString): Whiteout | undefined {
  const base = baseOf(path);
  if (!base.startsWith(whiteoutPrefix)) {
    return undefined;
  }
  const directory = parentOf(path);
  if (base === opaqueMarker) {
    return { kind: "opaque", directory };
  }
  const name = base.slice(whiteoutPrefix.length) as ByteString;
  if (name === "" || name === "." || name === "..") {
    throw new InvalidArgumentError(
      `Cannot unpack ${quoted(path)}: as a whiteout it removes ${quoted(name)}, want a name in its directory`,
    );
  }
  return { kind: "removal", path: joined(directory, name) };
}
