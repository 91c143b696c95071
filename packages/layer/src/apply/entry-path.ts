import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, quoted } from "../tar/byte-string.ts";

/** An empty component, `.` or `..` somewhere: what a name must not have to be taken as it is. */
const unclean = /(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * The path of an entry named `name`, relative to the root of the layer; empty for the root itself.
 *
 * An absolute name means the same as a relative one. Links in it are not looked at: the kernel does that.
 *
 * @throws {InvalidArgumentError} if the name climbs out of the root. No tool that makes layers writes such a name, so
 *   rather than guess what it is for, as bounding it would, it is refused.
 */
export function entryPath(name: ByteString): ByteString {
  const { path, climbs } = clean(name);
  if (climbs && path !== "") {
    throw new InvalidArgumentError(
      `Cannot unpack ${quoted(name)}: its name climbs out of the root with "..", want a path below it`,
    );
  }
  return path;
}

/**
 * The path of what a hard link points at. Here climbing ends at the root, as `..` does there: images exist whose hard
 * links are written so, and the link can reach nothing outside.
 */
export function linkTargetPath(name: ByteString): ByteString {
  return clean(name).path;
}

/** What lies above `path`: empty for the root, which is also above itself. */
export function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf("/"))) as ByteString;
}

export function baseOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf("/") + 1) as ByteString;
}

export function joined(directory: ByteString, name: ByteString): ByteString {
  return (directory === "" ? name : `${directory}/${name}`) as ByteString;
}

/** The shortest name that means the same if no component is a link. */
function clean(name: ByteString): { path: ByteString; climbs: boolean } {
  const start = name.startsWith("./") ? 2 : 0;
  const likely = name.slice(start, name.endsWith("/") ? -1 : undefined) as ByteString;
  if (!unclean.test(likely)) {
    return { path: likely, climbs: false };
  }
  const components: string[] = [];
  let climbs = false;
  for (const component of name.split("/")) {
    if (component === "..") {
      climbs ||= components.length === 0;
      components.pop();
    } else if (component !== "" && component !== ".") {
      components.push(component);
    }
  }
  return { path: components.join("/") as ByteString, climbs };
}
