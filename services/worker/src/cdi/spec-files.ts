import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Far more than the devices of any machine take. */
const maxFileBytes = 16 * 1024 * 1024;

/** A file of a directory, with what is in it or why that cannot be read. */
export interface SpecFile {
  readonly path: string;
  readonly content: Buffer | Error;
}

/**
 * Reads the files of `directory` that are of the CDI specification: those that end in .json and .yaml, as all that read
 * them agree. A directory that is not there has none; there may be one later.
 *
 * @throws the error of the system if the directory cannot be read.
 */
export async function readSpecFiles(directory: string): Promise<SpecFile[]> {
  const files: SpecFile[] = [];
  for (const { name, isDirectory } of await entriesOf(directory)) {
    const path = join(directory, name);
    const extension = extname(name);
    if (isDirectory) {
      continue;
    }
    if (extension === ".json" || extension === ".yaml") {
      files.push({ path, content: await contentOf(path).catch(asError) });
    } else if (extension === ".yml") {
      // BuildKit's own documentation calls its example so.
      const content = new InvalidArgumentError("its name ends in .yml, want .yaml");
      files.push({ path, content });
    }
  }
  return files;
}

async function entriesOf(directory: string) {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries
      .map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }))
      .toSorted((left, right) => (left.name < right.name ? -1 : 1));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return [];
    }
    throw error;
  }
}

async function contentOf(path: string): Promise<Buffer> {
  // O_NONBLOCK: opening a fifo must not wait for its writer.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (!stats.isFile()) {
    throw new InvalidArgumentError("it is no file, want one");
  }
  if (stats.size > maxFileBytes) {
    throw new InvalidArgumentError(`it has ${stats.size} bytes, want at most ${maxFileBytes}`);
  }
  return await file.readFile();
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
