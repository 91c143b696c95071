import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type MountedDirectory, mountTemporarily } from "@oci-worker/mounts/mount";
import type { ImageLayerContent } from "../../e2e/peers/image.ts";

/** Unpacks layers and shows them as overlayfs would to a container. Disposing removes them. */
export async function unpackedLayers(layers: readonly ImageLayerContent[]): Promise<MountedDirectory> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "bench-lazy-"))).path;
  const lowers: string[] = [];
  for (const [index, { blob }] of layers.entries()) {
    const archive = join(directory, "layer.tar.gz");
    await writeFile(archive, blob);
    const lower = join(directory, String(index));
    await mkdir(lower);
    const flags = ["--extract", "--gzip", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
    await promisify(execFile)("tar", [...flags, "--file", archive, "--directory", lower]);
    lowers.unshift(lower);
  }
  const [upper, work] = [join(directory, "upper"), join(directory, "work")];
  await Promise.all([mkdir(upper), mkdir(work)]);
  const options = [`lowerdir=${lowers.join(":")}`, `upperdir=${upper}`, `workdir=${work}`];
  const mounted = undo.use(
    await mountTemporarily([{ type: "overlay", source: "overlay", options }], directory),
  );
  const owned = undo.move();
  return { path: mounted.path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
