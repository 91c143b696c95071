import { execFile as execFileWithCallback } from "node:child_process";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { startProcess } from "./process.ts";

const execFile = promisify(execFileWithCallback);

/** A real agent with a fresh key. */
export async function startAgent() {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "agent-"))).path;
  const [path, key] = [join(directory, "agent.sock"), join(directory, "key")];
  await execFile("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key]);
  const process = undo.use(
    await startProcess({ program: "ssh-agent", args: ["-D", "-a", path], ready: /SSH_AUTH_SOCK=/ }),
  );
  const environment = { SSH_AUTH_SOCK: path };
  await execFile("ssh-add", ["-q", key], { env: environment });
  const { stdout: listing } = await execFile("ssh-add", ["-l"], { env: environment });
  const publicKey = await readFile(`${key}.pub`);
  const owned = undo.move();
  return { process, path, listing, publicKey, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
