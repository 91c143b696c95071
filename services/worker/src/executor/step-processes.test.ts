import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { StepProcesses } from "./step-processes.ts";

/** A first process in the name space at `path` that starts two others, which all tell their pids, and then waits. */
async function startThree(path: string) {
  const script = "sleep 3000 & echo $!; setsid sleep 3000 & echo $!; echo $$; read line";
  const child = spawn("nsenter", [`--ipc=${path}`, "sh", "-c", script], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  let text = "";
  while (text.trim().split("\n").length < 3) {
    const [chunk] = (await once(child.stdout, "data")) as [Buffer];
    text += chunk.toString();
  }
  return { child, closed, pids: text.trim().split("\n") };
}

describe("the processes of a step without a pid name space", () => {
  test("are killed when the first of them has ended, and not before", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "processes-"));
    await using processes = await StepProcesses.begin(join(directory.path, "processes"));
    const { child, closed, pids } = await startThree(processes.namespacePath);
    const pidFile = join(directory.path, "pid");
    const watching = processes.killAfterFirst(pidFile, new AbortController().signal);
    await writeFile(pidFile, pids[2] ?? "");
    assert.equal(child.exitCode, null);
    child.stdin.end();
    await watching;
    // It is closed when nobody holds the output any more.
    await closed;
    assert.equal(await processes.kill(), 0);
  });

  test("are killed by the next worker, and are no others", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "processes-"));
    const path = join(directory.path, "processes");
    await StepProcesses.begin(path);
    const { closed } = await startThree(path);
    await using found = StepProcesses.of(path);
    assert.equal(await found?.kill(), 3);
    await closed;
    assert.equal(StepProcesses.of(directory.path), undefined);
  });

  test("leave nothing behind", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "processes-"));
    {
      await using _processes = await StepProcesses.begin(join(directory.path, "processes"));
    }
    assert.deepEqual(await readdir(directory.path), []);
    assert.deepEqual(await mountPointsBeneath(directory.path), []);
  });
});
