import { access, statfs } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";

/** NSFS_MAGIC of linux/magic.h: what a name space is seen as. */
const nsfsMagic = 0x6e73_6673;

/**
 * The network that RootlessKit has made for containers while it left us in the host's (`--detach-netns`): a name space that
 * is mounted on the file `netns` of its state directory.
 *
 * @param stateDirectory undefined where there is no RootlessKit.
 * @returns undefined if there is no such network.
 * @throws {FailedPreconditionError} if there is no such directory, or the file is something else.
 */
export async function findDetachedNetns(stateDirectory: string | undefined): Promise<string | undefined> {
  if (stateDirectory === undefined) {
    return undefined;
  }
  if (!(await exists(stateDirectory))) {
    throw new FailedPreconditionError(
      `Cannot use ROOTLESSKIT_STATE_DIR ${stateDirectory}: there is no such directory, want it as RootlessKit sets it`,
    );
  }
  const path = join(stateDirectory, "netns");
  if (!(await exists(path))) {
    return undefined;
  }
  if ((await statfs(path)).type !== nsfsMagic) {
    throw new FailedPreconditionError(
      `Cannot use ROOTLESSKIT_STATE_DIR ${stateDirectory}: its netns is no name space, want it as RootlessKit makes it`,
    );
  }
  return path;
}

/**
 * The command that runs `program` in the network that is mounted at `netns`; in ours if that is undefined. `nsenter` is
 * part of util-linux, and becomes the program.
 */
export function inNetns(
  netns: string | undefined,
  program: string,
  args: readonly string[],
): [program: string, args: readonly string[]] {
  return netns === undefined ? [program, args] : ["nsenter", [`--net=${netns}`, "--", program, ...args]];
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
