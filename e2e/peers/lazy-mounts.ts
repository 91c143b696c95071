import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { killIfThere } from "./process.ts";

/** Unmounts what a snapshotter on `root` has left for the next one, and ends those that hold it. */
export async function endLazyMounts(root: string): Promise<void> {
  await unmountBeneath(root);
  const held = join(root, "lazy/held");
  for (const name of await readdir(held).catch(() => [])) {
    const { holder } = JSON.parse(await readFile(join(held, name), "utf8"));
    const command = await readFile(`/proc/${holder.pid}/cmdline`, "utf8").catch(() => "");
    if (command.startsWith("sleep\0")) {
      killIfThere(holder.pid);
    }
  }
}
