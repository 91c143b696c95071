import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";

/** Root is root, as far as files go; everybody else is somebody of no account. */
const idMap = "0 0 1\n1 100001 65535\n";

/** A user namespace with mounts of its own, as rootless services have. It is gone with the last process in there. */
export interface UserNamespacePeer extends AsyncDisposable {
  /** What to start a program by that shall run in there, as its root: one who owns files, and has no right over the machine. */
  readonly enter: readonly string[];
}

/** Makes a user namespace. `unshare` and `nsenter` are part of util-linux. */
export async function startUserNamespace(): Promise<UserNamespacePeer> {
  const flags = ["--user", "--mount", "--propagation", "private"];
  const keeper = spawn("unshare", [...flags, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(keeper, "exit");
  // It answers when it is in there.
  keeper.stdin.write("\n");
  await once(keeper.stdout, "data");
  for (const name of ["uid_map", "gid_map"]) {
    await writeFile(`/proc/${keeper.pid}/${name}`, idMap);
  }
  return {
    enter: ["nsenter", "--target", String(keeper.pid), "--user", "--mount"],
    [Symbol.asyncDispose]: async () => {
      keeper.stdin.end();
      await ended;
    },
  };
}
