import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { promisify } from "node:util";
import { closeDevice, mountDevice, openDevice } from "@oci-worker/fuse/device";
import { unmount } from "@oci-worker/mounts/mount";
import { type ErofsWay, mountErofs } from "./mount-erofs.ts";
import { mountTree } from "./mount-tree.ts";
import { probeContent, probeFile, probeTree } from "./probe-file-system.ts";
import { type ProbeScene, serveProbe } from "./probe-scene.ts";

const run = promisify(execFile);

/** Which options to try with each way, best first. With `directio` memory has content once; not every kernel knows it. */
const optionsOf = {
  erofs: [["directio"], []],
  "erofs-loop": [[]],
} as const satisfies Record<ErofsWay["mode"], readonly (readonly string[])[]>;

/** Finds out how EROFS is mounted in the way `mode`, by mounting and reading a file; or why it cannot be. */
export async function probeErofs(
  scene: ProbeScene,
  mode: ErofsWay["mode"],
): Promise<ErofsWay | { readonly obstacle: string }> {
  let obstacle = "";
  for (const options of optionsOf[mode]) {
    const way: ErofsWay = { mode, options };
    try {
      await tryWay(scene, way);
      return way;
    } catch (error) {
      obstacle = error instanceof Error ? error.message : String(error);
    }
  }
  return { obstacle };
}

/** Finds out why the files of an image cannot be served one by one, by doing so; undefined if they can. */
export async function probeFuse({ metaPath, target, path }: ProbeScene): Promise<string | undefined> {
  const trees = `${path}/trees`;
  await using undo = new AsyncDisposableStack();
  try {
    const fd = openDevice();
    undo.defer(() => closeDevice(fd));
    await mkdir(trees);
    mountDevice(fd, trees, { name: path, isImage: true });
    const ended = serveProbe({ fd, metaPath });
    undo.defer(async () => {
      await unmount(trees);
      await ended;
    });
    await mountTree(`${trees}/${probeTree}`, target);
    undo.defer(() => unmount(target));
    await readFileOf(target);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function tryWay({ metaPath, dataPath, target }: ProbeScene, way: ErofsWay): Promise<void> {
  await mountErofs(way, metaPath, dataPath, target);
  try {
    await readFileOf(target);
  } finally {
    await unmount(target);
  }
}

/** In another process: this one serves it. */
async function readFileOf(target: string): Promise<void> {
  const { stdout } = await run("cat", [`${target}/${probeFile}`]);
  if (stdout !== probeContent.toString()) {
    throw new Error("a file does not have the content that it was given");
  }
}
