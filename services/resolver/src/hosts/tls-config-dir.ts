import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { UnavailableError } from "@oci-worker/errdefs";
import type { KeyPair } from "@oci-worker/registry/host";

/** Why a directory may be unreadable without that being an error: BuildKit passes over it, too. */
const passable: ReadonlySet<string> = new Set(["ENOENT", "EACCES"]);

/**
 * The TLS files in directories laid out as Docker's `certs.d/<host>`: `*.crt` are authorities, `*.cert` with a `*.key`
 * of the same name are client certificates. Read anew each time, because files are added while we run.
 *
 * @throws {UnavailableError} naming the directory that cannot be read, such as one that is a file.
 */
export async function readTlsConfigDirs(
  directories: readonly string[],
): Promise<{ caFiles: string[]; keyPairs: KeyPair[] }> {
  const caFiles: string[] = [];
  const keyPairs: KeyPair[] = [];
  for (const directory of directories) {
    for (const name of (await filesIn(directory)).sort()) {
      const file = join(directory, name);
      if (name.endsWith(".crt")) {
        caFiles.push(file);
      } else if (name.endsWith(".cert")) {
        keyPairs.push({ certFile: file, keyFile: file.replace(/\.cert$/, ".key") });
      }
    }
  }
  return { caFiles, keyPairs };
}

async function filesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (passable.has(code)) {
      return [];
    }
    throw new UnavailableError(`Cannot use ${directory}: it cannot be read (${code})`, { cause });
  }
}
