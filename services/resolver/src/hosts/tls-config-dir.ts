import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { KeyPair } from "@oci-worker/registry/host";

/** Why a directory may be unreadable without that being an error: BuildKit passes over it, too. */
const passable: ReadonlySet<string> = new Set(["ENOENT", "EACCES"]);

/**
 * The TLS files in directories laid out as Docker's `certs.d/<host>`: `*.crt` are authorities, `*.cert` with a `*.key`
 * of the same name are client certificates. Read anew each time, because files are added while we run.
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
  } catch (error) {
    if (error instanceof Error && "code" in error && passable.has(String(error.code))) {
      return [];
    }
    throw error;
  }
}
