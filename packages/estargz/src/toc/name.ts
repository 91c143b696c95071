import { InvalidArgumentError } from "@oci-worker/errdefs";

/** NAME_MAX and PATH_MAX without the NUL (linux/limits.h): no file system that we know has longer ones. */
export const [maxComponentBytes, maxPathBytes] = [255, 4095];

/** An empty component, `.` or `..` somewhere, or a NUL: what most names have not. */
const unclean = /(?:^|\/)\.{0,2}(?:\/|$)|\0/;

/**
 * The path, relative to the root, of an entry named `name`; "" for the root itself. An absolute name means the same.
 *
 * @throws {InvalidArgumentError} if the name climbs out of the root, or no file can have it.
 */
export function cleanName(name: string): string {
  const likely = name.slice(name.startsWith("./") ? 2 : 0, name.endsWith("/") ? -1 : undefined);
  const path = unclean.test(likely) ? cleaned(name) : likely;
  // Most paths are shorter than what each component may have: a character takes three bytes at most, or is two.
  const mayBeLong = path.length > maxComponentBytes / 3;
  const isLong = mayBeLong && Buffer.byteLength(path) > maxPathBytes;
  const hasLong = mayBeLong && path.split("/").some(isLongComponent);
  if (isLong || hasLong || !path.isWellFormed()) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(name.slice(0, 200))} as a name: want at most ${maxPathBytes} bytes of UTF-8, ` +
        `${maxComponentBytes} between slashes`,
    );
  }
  return path;
}

function isLongComponent(component: string): boolean {
  return Buffer.byteLength(component) > maxComponentBytes;
}

function cleaned(name: string): string {
  const components: string[] = [];
  for (const component of name.split("/")) {
    if ((component === ".." && components.pop() === undefined) || component.includes("\0")) {
      throw new InvalidArgumentError(
        `Cannot use ${JSON.stringify(name.slice(0, 200))} as a name: want a path below the root, without NUL`,
      );
    }
    if (component !== "" && component !== "." && component !== "..") {
      components.push(component);
    }
  }
  return components.join("/");
}

/** The name of the directory that holds `path`, which is not the root; and its own in there. */
export function parted(path: string): { parent: string; base: string } {
  const slash = path.lastIndexOf("/");
  return { parent: path.slice(0, Math.max(0, slash)), base: path.slice(slash + 1) };
}
