import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Secret numbers of this user, one for each registry. They never leave this machine. */
export interface TokenSeeds {
  seedFor(host: string): Promise<Uint8Array>;
}

/** Bytes of a new seed, as BuildKit's client makes them. */
const seedBytes = 16;

const fileName = ".token_seed";

/** We cannot write there, so the seed lives as long as this process: tokens are fetched more often, no more. */
const cannotWrite: ReadonlySet<string> = new Set(["EACCES", "ENOTDIR", "EPERM", "EROFS"]);

/**
 * Seeds kept in `directory`, docker's own, in the file that BuildKit's client uses, so that both are one identity to a
 * daemon.
 */
export function tokenSeedsIn(directory: string): TokenSeeds {
  const known = new Map<string, Promise<Uint8Array>>();
  return {
    seedFor(host) {
      const seed = known.get(host) ?? loadOrMake(directory, host);
      known.set(host, seed);
      return seed;
    },
  };
}

async function loadOrMake(directory: string, host: string): Promise<Uint8Array> {
  const path = join(directory, fileName);
  const stored = await load(path);
  const seed = decode(stored[host]);
  if (seed !== undefined) {
    return seed;
  }
  const made = randomBytes(seedBytes);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await replace(path, { ...stored, [host]: { Seed: made.toString("base64") } });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && cannotWrite.has(String(error.code)))) {
      throw error;
    }
  }
  return made;
}

/** Whole or not at all: a reader never sees half a file. Of two writers one loses its seed, which costs a token. */
async function replace(path: string, content: object): Promise<void> {
  const temporaryPath = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(temporaryPath, JSON.stringify(content, undefined, 2), { mode: 0o600, flag: "wx" });
    await rename(temporaryPath, path);
  } finally {
    await rm(temporaryPath, { force: true });
  }
}

async function load(path: string): Promise<Record<string, unknown>> {
  try {
    const content: unknown = JSON.parse(await readFile(path, "utf8"));
    return typeof content === "object" && content !== null ? { ...content } : {};
  } catch {
    // Absent, unreadable or damaged: new seeds are made, and no more is lost than an identity towards daemons.
    return {};
  }
}

function decode(entry: unknown): Uint8Array | undefined {
  if (typeof entry !== "object" || entry === null || !("Seed" in entry) || typeof entry.Seed !== "string") {
    return undefined;
  }
  const seed = Buffer.from(entry.Seed, "base64");
  return seed.length >= seedBytes ? seed : undefined;
}
