import { execFile } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { startContainerd } from "./containerd.ts";

const execute = promisify(execFile);

/** Before a command that reads lazy files: a read that nobody answers would wait for ever. */
export const killAfter = ["timeout", "-s", "KILL", "120"] as const;

/** What an eStargz layer has for its readers, and nobody sees who mounts it. */
const onlyUnpacked = /^"(stargz\.index\.json|\.no\.prefetch\.landmark|\.prefetch\.landmark)" /;

/**
 * Everything that is beneath the directory `path`: names, types, content, modes, owners, times, links, attributes, devices, as
 * lines that can be compared. Another process reads it, as a client of the snapshotter would.
 *
 * @param enter what to start that process by.
 */
export async function treeAt(path: string, enter: readonly string[] = []): Promise<string[]> {
  const program = join(import.meta.dirname, "tell-tree.ts");
  const [command, ...args] = [...killAfter, ...enter, process.execPath, program, path];
  const { stdout } = await execute(command, args, { maxBuffer: 64 * 1024 * 1024 });
  return stdout.split("\n").filter((line) => !onlyUnpacked.test(line));
}

/**
 * What is unpacked of an image by containerd's own overlayfs.
 *
 * @param chain names of the snapshots of its layers.
 */
export async function unpackedTree(image: string, chain: readonly string[]): Promise<string[]> {
  await using containerd = await startContainerd();
  await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", image);
  await using directory = await mkdtempDisposable(join(tmpdir(), "unpacked-"));
  const told = await containerd.ctr(
    "snapshots",
    "--snapshotter",
    "overlayfs",
    "view",
    "--mounts",
    "--target",
    "/target",
    "look",
    chain.at(-1) ?? "",
  );
  const [, type = "", source = "", options = ""] = /mount -t (\S+) (\S+) \/target -o (\S+)/.exec(told) ?? [];
  await using mounted = await mountTemporarily(
    [{ type, source, options: options.split(",") }],
    directory.path,
  );
  return await treeAt(mounted.path);
}
