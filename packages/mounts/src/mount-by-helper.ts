import { spawn } from "node:child_process";
import { once } from "node:events";
import { posix } from "node:path";
import { text } from "node:stream/consumers";
import type { Mount } from "./mount.ts";

/** A type that names the program which serves the file system, and the library that it was built with. */
const servedType = /^(fuse3?)\.([A-Za-z0-9_][A-Za-z0-9._-]*)$/;

/** Programs for the administrator are not in everybody's PATH. */
const administratorPath = "/usr/sbin:/sbin";

/**
 * The helper makes one command line for the shell of all that it is told, and the kernel takes no argument of more
 * than 128 KiB (execve(2), MAX_ARG_STRLEN). What is left of that is for the target and for quotation marks.
 */
const maxOptionBytes = 120 * 1024;

/** fuse-overlayfs says so, of an option that the helper adds, each time it is started. */
const noise = /^unknown argument ignored/;

/** A command line, and the directory that its relative paths start from. */
interface HelperCommand {
  readonly program: "mount.fuse" | "mount.fuse3";
  readonly args: readonly string[];
  readonly directory: string;
}

/**
 * How the file system of `mount` is mounted by a helper of mount(8), or undefined if its type is one of the kernel's.
 *
 * Only the helpers of FUSE are run, whatever a mount list says: a list comes from another process.
 */
export function helperCommand({ type, source, options }: Mount, at: string): HelperCommand | undefined {
  const [, library, name] = servedType.exec(type) ?? [];
  if (library === undefined || name === undefined) {
    return undefined;
  }
  const { told, directory } = fitting(options);
  const args = [source, at, ...(told.length > 0 ? ["-o", told.join(",")] : []), "-t", name];
  return { program: library === "fuse" ? "mount.fuse" : "mount.fuse3", args, directory };
}

/**
 * Runs `command` to its end, which comes when the file system is mounted.
 *
 * The process that serves it goes on in a session of its own, with none of our descriptors and variables, until the
 * file system is unmounted: it outlives us.
 *
 * @throws {Error} with what the helper said.
 */
export async function mountByHelper({ program, args, directory }: HelperCommand): Promise<void> {
  const child = spawn(program, args, {
    cwd: directory,
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: `${process.env["PATH"] ?? "/usr/bin:/bin"}:${administratorPath}`, LC_ALL: "C" },
  });
  const said = text(child.stderr);
  // It fails too where the helper cannot be started, and what that failed with is told instead.
  said.catch(() => undefined);
  const [code, signal] = await ended(child, program);
  if (code === 0) {
    child.stderr.destroy();
    return;
  }
  const lines = (await said).split("\n").filter((line) => line !== "" && !noise.test(line));
  const how = signal === null ? `exit code ${code}` : signal;
  throw new Error(`${program} ended with ${how}: ${lines.join("; ") || "it said nothing"}`);
}

async function ended(child: NodeJS.EventEmitter, program: string): Promise<unknown[]> {
  try {
    return await once(child, "exit");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      const name = program === "mount.fuse" ? "fuse" : "fuse3";
      throw new Error(`${program} is not in PATH, want Debian's package ${name} or its like`, { cause });
    }
    throw cause;
  }
}

/** Options that are too long as they are get lower directories relative to the one that they all are in. */
function fitting(options: readonly string[]): { told: readonly string[]; directory: string } {
  const lower = options.find((option) => option.startsWith(lowerPrefix));
  if (lower === undefined || Buffer.byteLength(options.join(",")) <= maxOptionBytes) {
    return { told: options, directory: "/" };
  }
  const paths = lower.slice(lowerPrefix.length).split(":");
  const directory = commonDirectory(paths);
  const relative = paths.map((path) => posix.relative(directory, path) || ".").join(":");
  return {
    told: options.map((option) => (option === lower ? `${lowerPrefix}${relative}` : option)),
    directory,
  };
}

const lowerPrefix = "lowerdir=";

/** The deepest directory that all of `paths`, which are absolute, are beneath or are. */
function commonDirectory(paths: readonly string[]): string {
  const [first = [], ...others] = paths.map((path) => path.split("/"));
  const differsAt = first.findIndex((part, index) => others.some((other) => other[index] !== part));
  const shared = differsAt === -1 ? first : first.slice(0, differsAt);
  return shared.join("/") || "/";
}
