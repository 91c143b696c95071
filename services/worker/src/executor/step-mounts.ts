import { chmod, chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import type { StepIDs } from "../remap/step-ids.ts";
import { openAgentSocket } from "./agent-socket.ts";
import type { MemoryDirectory } from "./memory-directory.ts";
import type { SpecMount } from "./oci-spec.ts";
import { Rootfs } from "./rootfs.ts";
import { labelFile, labelSnapshot } from "./selinux/label-files.ts";
import type { StepLabels } from "./selinux/step-labels.ts";
import type { SecretFile, SnapshotMount, StepMount, TmpfsMount } from "./step.ts";

export interface StepMountParts {
  /** Where what has to be mounted or made on the host is, until `undo` is disposed of. */
  readonly bundle: string;
  readonly memory: MemoryDirectory;
  /** Undefined without SELinux. */
  readonly labels: StepLabels | undefined;
  readonly ids: StepIDs;
  readonly undo: AsyncDisposableStack;
}

/** What the runtime is told of the mounts of a step, each of which is made ready first. */
export async function specMounts(mounts: readonly StepMount[], parts: StepMountParts): Promise<SpecMount[]> {
  const specs: SpecMount[] = [];
  for (const [index, mount] of mounts.entries()) {
    specs.push(await specMount(mount, `mount-${index}`, parts));
  }
  return specs;
}

/** @param name of whatever is made for it, in the bundle. */
async function specMount(mount: StepMount, name: string, parts: StepMountParts): Promise<SpecMount> {
  const { destination } = mount;
  switch (mount.kind) {
    case "tmpfs":
      return { destination, type: "tmpfs", source: "tmpfs", options: tmpfsOptions(mount) };
    case "secret": {
      const source = await writeSecret(mount, join(await parts.memory.path(), name), parts.ids);
      return { destination, type: "bind", source, options: ["ro", "rbind", "nodev", "nosuid", "noexec"] };
    }
    case "agent": {
      const source = await openAgentSocket(mount, name, parts);
      if (parts.labels !== undefined) {
        labelFile(source, parts.labels.mount);
      }
      return { destination, type: "bind", source, options: ["rbind"] };
    }
    case "snapshot": {
      const source = await snapshotSource(mount, name, parts);
      return { destination, type: "bind", source, options: [mount.writable ? "rw" : "ro", "rbind"] };
    }
  }
}

function tmpfsOptions({ sizeBytes, writable }: TmpfsMount): string[] {
  return ["nosuid", ...(writable ? [] : ["ro"]), ...(sizeBytes > 0n ? [`size=${sizeBytes}`] : [])];
}

async function writeSecret({ content, owner }: SecretFile, path: string, ids: StepIDs): Promise<string> {
  const { uid, gid } = ids.hostOwner(owner);
  await writeFile(path, content, { mode: 0o600 });
  await chown(path, uid, gid);
  await chmod(path, owner.mode);
  return path;
}

/** Where the snapshot, or the part of it that is asked for, can be seen on the host. */
async function snapshotSource(
  { destination, isRemapped = false, mounts: plain, selector }: SnapshotMount,
  name: string,
  { bundle, ids, labels, undo }: StepMountParts,
): Promise<string> {
  const mounts = await labelSnapshot(plain, labels);
  const [only, ...others] = mounts;
  const owners = isRemapped ? undefined : ids.owners;
  const isDirectory = only?.type === "bind" && others.length === 0 && owners === undefined;
  if (isDirectory && selector === "/") {
    return only.source;
  }
  const path = join(bundle, name);
  if (!isDirectory) {
    await mkdir(path);
    await mountAll(mounts, path, owners);
    undo.defer(() => unmount(path));
    if (selector === "/") {
      return path;
    }
  }
  using root = new Rootfs(isDirectory ? only.source : path);
  const selected = `${path}-selected`;
  if (!(await root.showAt(selector, selected))) {
    throw new InvalidArgumentError(
      `Cannot mount ${JSON.stringify(selector)} at ${destination}: there is no such path in its snapshot`,
    );
  }
  undo.defer(() => unmount(selected));
  return selected;
}
