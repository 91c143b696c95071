import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";

const run = promisify(execFile);

/** A real root file system as a layer: some hundred megabytes and twenty thousand entries of Debian. */
export interface DebianLayer {
  readonly blobPath: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffID: Digest;
}

/** What makes it as large as images are that people build with. */
const packages = ["build-essential", "git", "perl", "python3", "locales", "man-db", "vim-nox"];

const directory = join(tmpdir(), "oci-worker-bench");

/** Makes the layer with debootstrap and gzip, once: it takes some minutes and is kept for the next time. */
export async function debianLayer(): Promise<DebianLayer> {
  const tar = join(directory, "debian.tar");
  const blobPath = `${tar}.gz`;
  if ((await stat(blobPath).catch(() => undefined)) === undefined) {
    process.stderr.write(`making a Debian layer in ${directory}\n`);
    await make(tar);
  }
  const { size } = await stat(blobPath);
  return { blobPath, sizeBytes: size, digest: await digestOf(blobPath), diffID: await digestOf(tar) };
}

async function make(tar: string): Promise<void> {
  const root = join(directory, "root");
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  const options = ["--variant=minbase", `--include=${packages.join(",")}`];
  await run("debootstrap", [...options, "bookworm", root], { maxBuffer: 64 * 1024 * 1024 });
  await run("tar", [
    "--sort=name",
    "--numeric-owner",
    "--directory",
    root,
    "--create",
    "--file",
    `${tar}.new`,
    ".",
  ]);
  await run("pigz", ["--keep", "--suffix", ".gz", `${tar}.new`]);
  await rm(root, { recursive: true });
  await rename(`${tar}.new`, tar);
  await rename(`${tar}.new.gz`, `${tar}.gz`);
}

async function digestOf(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk);
  }
  return digestOfHash(hash);
}
