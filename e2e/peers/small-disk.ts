import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, open, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { mountAll } from "@oci-worker/mounts/mount";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";

const run = promisify(execFile);

const mebibyte = 1024 * 1024;

/** A file system of its own. Disposing unmounts and removes it. */
export interface SmallDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** Writes until there is no room left. */
  fill(): Promise<void>;
  /** Makes room again after {@link fill}. */
  empty(): Promise<void>;
}

/** A file system of `sizeMiB` in memory, or on a loop device. */
export async function makeDisk(type: "tmpfs" | "ext4", sizeMiB: number): Promise<SmallDisk> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "disk-"))).path;
  const path = join(directory, "mounted");
  await mkdir(path);
  undo.defer(async () => void (await unmountBeneath(path)));
  if (type === "tmpfs") {
    await mountAll([{ type, source: type, options: [`size=${sizeMiB}m`] }], path);
  } else {
    const image = join(directory, "image");
    await using file = await open(image, "w");
    await file.truncate(sizeMiB * mebibyte);
    // Without blocks that are kept for root, who is who asks for them here.
    await run("mkfs.ext4", ["-q", "-m", "0", "-E", "lazy_itable_init=0", image]);
    await run("mount", ["-o", "loop,errors=remount-ro", image, path]);
  }
  const owned = undo.move();
  const filler = join(path, "filler");
  return {
    path,
    fill: async () => {
      await mkdir(filler, { recursive: true });
      // Down to the last block, which a file larger than the room that is left would not get.
      for (let bytes = mebibyte; bytes >= 4096; ) {
        const count = (await readdir(filler)).length;
        try {
          await writeFile(join(filler, String(count)), Buffer.alloc(bytes, 1));
        } catch (error) {
          if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) {
            throw error;
          }
          bytes /= 2;
        }
      }
    },
    empty: () => rm(filler, { recursive: true, force: true }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
