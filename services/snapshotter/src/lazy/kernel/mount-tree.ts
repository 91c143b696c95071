import { mountAll } from "@oci-worker/mounts/mount";
import { lookAtElsewhere } from "./look-up.ts";

/** Mounts the served directory `path` at `target`. Whoever serves it may call this: it waits for no answer of its own. */
export async function mountTree(path: string, target: string): Promise<void> {
  // From then on the kernel knows the directory, and this process may name it too.
  await lookAtElsewhere(path);
  await mountAll([{ type: "bind", source: path, options: ["bind"] }], target);
}
