import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { directoryTree } from "@oci-worker/fsutil/directory-tree";
import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { calling } from "@oci-worker/fsutil/packet-stream";
import { sendTree } from "@oci-worker/fsutil/send";
import { type FakeBuild, startFakeDaemon } from "./fake-daemon/fake-daemon.ts";

/** Plays a daemon that has run the example's step, with a result of one file. */
async function play({ tell, returned, session }: FakeBuild, files: string): Promise<Record<string, string>> {
  await returned;
  const times = { started: { seconds: 1n }, completed: { seconds: 2n } };
  tell({ vertexes: [{ digest: "sha256:1", name: "sh -c echo", ...times }] });
  tell({ logs: [{ vertex: "sha256:1", stream: 1n, msg: Buffer.from("from the step\n") }] });
  const client = createClient(FileSendPackets, session.channel);
  await calling(
    (outgoing, signal) => client.diffCopy(outgoing, { signal }),
    (stream) => sendTree(stream, directoryTree(files)),
  );
  return {};
}

test("the example of the README does what it says", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const [, example] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  assert(example !== undefined);
  await using dir = await mkdtempDisposable(join(tmpdir(), "readme-"));
  // Its imports are found as those of any program in the workspace.
  await symlink(join(import.meta.dirname, "../../../node_modules"), join(dir.path, "node_modules"));
  const socketPath = join(dir.path, "s");
  const program = join(dir.path, "example.ts");
  await writeFile(program, example.replace("/run/oci-worker/worker.sock", socketPath));
  const files = await mkdtempDisposable(join(dir.path, "files-"));
  await writeFile(join(files.path, "hello"), "hello\n");
  await using _daemon = await startFakeDaemon(socketPath, {
    imageConfig: () => ({ os: "linux", architecture: "amd64", config: { Env: ["PATH=/bin"] } }),
    build: (build) => play(build, files.path),
  });
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [program], { cwd: dir.path });
  assert.equal(stdout, "from the step\n");
  assert.equal(stderr, "✔ sh -c echo\n1 entries are in ./result\n");
  assert.equal(await readFile(join(dir.path, "result/hello"), "utf8"), "hello\n");
});
