import { getSystemErrorMap } from "node:util";
import koffi from "koffi";

/** A path for a system call: text, or bytes where a name is not UTF-8. */
export type Path = string | Buffer;

/** A failed system call, in the form of Node's own: `code` such as "ENOENT", `syscall`, `path`. */
export interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
}

// koffi knows size_t, but not its signed sister (sys/types.h).
koffi.alias("ssize_t", "intptr_t");

// struct iovec of readv(2): `{ base, length }`, where base is a buffer.
koffi.struct("iovec", { base: "void *", length: "size_t" });

const library = load();

/**
 * Binds one function of the C library by its prototype. What it returns is the raw result; callers hand that to
 * {@link check} before anything else can call into libc, because errno is gone after that.
 */
export function bind(prototype: string): (...args: unknown[]) => unknown {
  return library.func(prototype);
}

/**
 * Passes on the result of a call, or throws its errno if the result is negative.
 *
 * @throws {SystemError}
 */
export function check(syscall: string, result: unknown, path?: Path): number {
  const value = Number(result);
  if (value < 0) {
    throw systemError(syscall, koffi.errno(), path);
  }
  return value;
}

/** The errno of the call that has just failed, for calls that report it without an error object. */
export function errnoOf(): number {
  return koffi.errno();
}

/** `path` as the C library reads it: NUL-terminated if it is bytes. koffi terminates text itself. */
export function cPath(path: Path): Path {
  return typeof path === "string" ? path : Buffer.concat([path, Buffer.alloc(1)]);
}

function systemError(syscall: string, errno: number, path: Path | undefined): SystemError {
  const [code = "UNKNOWN", text = "unknown error"] = getSystemErrorMap().get(-errno) ?? [];
  const where = path === undefined ? "" : ` '${path.toString()}'`;
  const error = new Error(`${code}: ${text}, ${syscall}${where}`);
  return Object.assign(error, { code, errno: -errno, syscall, ...(path && { path: path.toString() }) });
}

/** glibc's name for itself, then musl's. */
function load(): ReturnType<typeof koffi.load> {
  try {
    return koffi.load("libc.so.6");
  } catch {
    return koffi.load("libc.so");
  }
}
