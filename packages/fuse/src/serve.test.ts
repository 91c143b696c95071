import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { on, once } from "node:events";
import {
  link,
  lstat,
  mkdir,
  mkdtempDisposable,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  statfs,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import { mountTemporarily, unmount } from "@oci-worker/mounts/mount";
import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { raiseReadAhead } from "@oci-worker/mounts/read-ahead";
import {
  answerRead,
  closeDevice,
  mountDevice,
  openDevice,
  readReply,
  readReplyHeaderBytes,
} from "./device.ts";
import { type Holder, startHolder, stopHolder, takeFromHolder } from "./holder.ts";
import { lateContent, lateLine, type SampleFile, servingLine } from "./sample-file-system.ts";
import type { SampleServerData } from "./sample-server.ts";

const server = join(import.meta.dirname, "sample-server.ts");
const program = join(import.meta.dirname, "sample-program.ts");

interface Served extends AsyncDisposable {
  readonly path: string;
  readonly fd: number;
  readonly worker: Worker;
  /** Ends the thread and leaves the mount alone. */
  stop(): Promise<void>;
}

/** Mounts `files` and serves them from a thread. */
async function serve(
  files: readonly SampleFile[],
  more: Partial<SampleServerData> = {},
  isImage = true,
): Promise<Served> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "fuse-")));
  const path = join(directory.path, "mount");
  await mkdir(path);
  const fd = openDevice();
  undo.defer(() => closeDevice(fd));
  mountDevice(fd, path, { name: "sample", isImage });
  undo.defer(() => unmount(path));
  const stopped = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(server, {
    workerData: { fd, files, stopped, ...more } satisfies SampleServerData,
  });
  const exited = once(worker, "exit");
  const owned = undo.move();
  return {
    path,
    fd,
    worker,
    stop: async () => {
      Atomics.store(stopped, 0, 1);
      // It waits for the kernel: a request wakes it. Who answers that is another matter.
      run("stat", [join(path, "wake up")]).catch(() => undefined);
      await exited;
    },
    [Symbol.asyncDispose]: async () => {
      await unmount(path);
      await exited;
      await owned.disposeAsync();
    },
  };
}

const directoryMode = 0o040755;

const run = promisify(execFile);

/**
 * Reads a file in another process. One that waits for an answer to a request of its own cannot end, not even killed; so this
 * one never asks for what may stay unanswered.
 */
async function readElsewhere(path: string): Promise<string> {
  return (await run("cat", [path])).stdout;
}

describe("a served file system", () => {
  test("shows names, attributes, content, links and extended attributes", async () => {
    const names = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`name ${index}`, 3]));
    await using served = await serve([
      { mode: directoryMode, children: { file: 2, empty: 3, link: 4, many: 5, device: 6 } },
      { mode: 0o104755, content: "content\n", xattrs: { "user.a": "1", "trusted.b": "\0two" } },
      { mode: 0o100600, content: "" },
      { mode: 0o120777, content: "file" },
      { mode: 0o041777, children: names },
      { mode: 0o020666 },
    ]);
    const file = join(served.path, "file");
    assert.equal(await readFile(file, "utf8"), "content\n");
    const status = await stat(file, { bigint: true });
    assert.deepEqual([status.mode, status.size, status.ino], [0o104755n, 8n, 2n]);
    assert.equal(status.mtimeNs, 1_000_000_000_123_456_789n);
    assert.equal(await readFile(join(served.path, "empty"), "utf8"), "");
    assert.equal(await readlink(join(served.path, "link")), "file");
    assert.equal(await readFile(join(served.path, "link"), "utf8"), "content\n");
    assert((await lstat(join(served.path, "device"))).isCharacterDevice());
    assert.deepEqual((await readdir(join(served.path, "many"))).sort(), Object.keys(names).sort());
    assert.deepEqual(llistxattr(file).sort(), ["trusted.b", "user.a"]);
    assert.deepEqual(lgetxattr(file, "trusted.b"), Buffer.from("\0two"));
    assert.throws(() => lgetxattr(file, "user.absent"), { code: "ENODATA" });
    await assert.rejects(stat(join(served.path, "absent")), { code: "ENOENT" });
    assert.equal((await statfs(served.path)).bsize, 4096);
  });

  test("gives reads of any place and size what is there", async () => {
    const content = Array.from({ length: 400_000 }, (_, index) => `${index}\n`).join("");
    await using served = await serve([
      { mode: directoryMode, children: { big: 2 } },
      { mode: 0o100444, content },
    ]);
    await raiseReadAhead(mountedAt(await readMountInfo(), served.path)?.device ?? "", 1024);
    assert((await readFile(join(served.path, "big"), "utf8")) === content);
    await using file = await open(join(served.path, "big"));
    for (const position of [0, 1, 4095, 4096, 1_000_001, content.length - 3, content.length + 1]) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(10_000), 0, 10_000, position);
      assert.equal(
        buffer.subarray(0, bytesRead).toString(),
        content.slice(position, Math.min(position + 10_000, content.length)),
      );
    }
  });

  test("refuses every change", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { file: 2 } },
      { mode: 0o100666, content: "x" },
    ]);
    const changes = [
      () => writeFile(join(served.path, "new"), ""),
      () => writeFile(join(served.path, "file"), "y"),
      () => mkdir(join(served.path, "new")),
      () => rm(join(served.path, "file")),
      () => link(join(served.path, "file"), join(served.path, "other")),
    ];
    for (const change of changes) {
      await assert.rejects(change, { code: "EROFS" });
    }
  });

  test("answers a read later, from another thread, while others are served", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { late: 2, now: 3 } },
      { mode: 0o100444, content: "0123456789", isLate: true },
      { mode: 0o100444, content: "now" },
    ]);
    const asked = once(served.worker, "message");
    const reading = readElsewhere(join(served.path, "late"));
    const [{ unique, offset, size }] = await asked;
    assert.equal(await readFile(join(served.path, "now"), "utf8"), "now");
    assert.equal(offset, 0);
    const reply = readReply(size);
    reply.write("0123456789", readReplyHeaderBytes);
    answerRead(served.fd, unique, reply, 10);
    assert.equal(await reading, "0123456789");
  });

  test("fails the read that is answered with an error, and asks again for the next", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { late: 2 } },
      { mode: 0o100444, content: "0123456789", isLate: true },
    ]);
    let isBroken = true;
    // The kernel asks twice for a page: first with those behind it, then, since that has failed, alone.
    served.worker.on("message", ({ unique, size }) => {
      const reply = readReply(size);
      answerRead(served.fd, unique, reply, isBroken ? -5 : reply.write("0123456789", readReplyHeaderBytes));
    });
    await assert.rejects(readElsewhere(join(served.path, "late")), /Input\/output error/);
    isBroken = false;
    assert.equal(await readElsewhere(join(served.path, "late")), "0123456789");
  });

  test("fails the read of a file at which it throws, and goes on with others", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { broken: 2, whole: 3 } },
      { mode: 0o100444, content: "0123456789", isBroken: true },
      { mode: 0o100444, content: "whole" },
    ]);
    await assert.rejects(readElsewhere(join(served.path, "broken")), /Input\/output error/);
    assert.equal(await readElsewhere(join(served.path, "whole")), "whole");
  });

  test("tells of a reader that has been interrupted", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { late: 2 } },
      { mode: 0o100444, content: "0123456789", isLate: true },
    ]);
    const messages = on(served.worker, "message");
    const next = async () => (await messages.next()).value?.[0];
    const reader = spawn("cat", [join(served.path, "late")], { stdio: "ignore" });
    const exited = once(reader, "exit");
    // Nobody waits for what is read ahead, so nobody can be interrupted; what comes after its failure is waited for.
    answerRead(served.fd, (await next()).unique, readReply(0), -5);
    const { unique } = await next();
    reader.kill("SIGINT");
    assert.deepEqual(await next(), { interrupted: unique });
    answerRead(served.fd, unique, readReply(0), -4);
    assert.deepEqual(await exited, [null, "SIGINT"]);
  });

  test("ends with its mount", async () => {
    const served = await serve([{ mode: directoryMode, children: {} }]);
    await served[Symbol.asyncDispose]();
    await assert.rejects(stat(served.path), { code: "ENOENT" });
  });

  test("ends when somebody cuts its connection", async () => {
    await using served = await serve([{ mode: directoryMode, children: {} }]);
    await stat(served.path);
    const [, minor = ""] = mountedAt(await readMountInfo(), served.path)?.device.split(":") ?? [];
    await using control = await mountTemporarily(
      [{ type: "fusectl", source: "fusectl", options: [] }],
      tmpdir(),
    );
    const exited = once(served.worker, "exit");
    await writeFile(join(control.path, minor, "abort"), "1");
    assert.deepEqual(await exited, [0]);
  });

  test("lets files that are known be opened while nobody serves", async () => {
    await using served = await serve([
      { mode: directoryMode, children: { first: 2, second: 3 } },
      { mode: 0o100444, content: "1" },
      { mode: 0o100444, content: "2" },
    ]);
    assert.equal(await readElsewhere(join(served.path, "first")), "1");
    await run("stat", [join(served.path, "second")]);
    await served.stop();
    await run("timeout", ["-s", "KILL", "60", "sh", "-c", `: < ${join(served.path, "second")}`]);
  });

  test("goes on when the thread that served it has ended and another begins", async () => {
    await using first = await serve(
      [
        { mode: directoryMode, children: { file: 2 } },
        { mode: 0o100444, content: "first" },
      ],
      { cacheSeconds: 0 },
    );
    assert.equal(await readFile(join(first.path, "file"), "utf8"), "first");
    await first.stop();
    const reading = readElsewhere(join(first.path, "file"));
    const files = [
      { mode: directoryMode, children: { file: 2 } },
      { mode: 0o100444, content: "other" },
    ];
    const workerData: SampleServerData = { fd: first.fd, files, cacheSeconds: 0 };
    const second = new Worker(server, { workerData });
    assert.match(await reading, /other|first/);
    await unmount(first.path);
    await once(second, "exit");
  });
});

/** The sample program with the device `fd`. */
async function startServer(
  fd: number,
  shouldAnswer: boolean,
): Promise<{ child: ChildProcess; lines: () => Promise<string> }> {
  const child = spawn(process.execPath, [program, ...(shouldAnswer ? ["answer"] : [])], {
    stdio: ["ignore", "pipe", "inherit", fd],
  });
  assert(child.stdout);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  assert.equal(await next(), servingLine);
  return { child, lines: next };
}

describe("a holder", () => {
  test("keeps a file system whose server is killed, and its unanswered reads for the next server", async () => {
    await using undo = new AsyncDisposableStack();
    const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "fuse-")));
    const path = join(directory.path, "mount");
    await mkdir(path);
    const fd = openDevice();
    mountDevice(fd, path, { name: "sample", isImage: false });
    undo.defer(() => unmount(path));
    const holder = await startHolder(fd);
    undo.defer(() => stopHolder(holder));
    const first = await startServer(fd, false);
    closeDevice(fd);
    const reading = readElsewhere(join(path, "late"));
    assert.equal(await first.lines(), lateLine);
    first.child.kill("SIGKILL");
    await once(first.child, "exit");

    const taken = takeFromHolder(holder);
    assert(taken !== undefined);
    undo.defer(() => closeDevice(taken));
    const second = await startServer(taken, true);
    undo.defer(async () => {
      second.child.kill("SIGKILL");
    });
    assert.equal(await reading, lateContent);
    assert.equal(await second.lines(), lateLine);
  });

  test("is known again by its number and its start, and not taken for another process", async () => {
    const fd = openDevice();
    const holder = await startHolder(fd);
    closeDevice(fd);
    const taken = takeFromHolder(holder);
    assert(taken !== undefined);
    closeDevice(taken);
    const stranger: Holder = { ...holder, startTime: "1" };
    assert.equal(takeFromHolder(stranger), undefined);
    stopHolder(stranger);
    const again = takeFromHolder(holder);
    assert(again !== undefined, "a holder that was meant for another process still runs");
    closeDevice(again);
    stopHolder(holder);
    assert.equal(takeFromHolder({ ...holder, pid: 2 ** 22 - 1 }), undefined);
  });

  test("ends if nobody has written down that it is there", async () => {
    const fd = openDevice();
    const remembered: Holder[] = [];
    const starting = startHolder(fd, async (holder) => {
      remembered.push(holder);
      throw new Error("no room on disk");
    });
    await assert.rejects(starting, /no room/);
    const [holder] = remembered;
    assert(holder);
    closeDevice(fd);
    // Its parent is this process, which sees it end.
    await run("tail", ["-s", "0.02", "--pid", String(holder.pid), "-f", "/dev/null"]);
    assert.equal(takeFromHolder(holder), undefined);
  });

  test("is refused if what it holds is no FUSE device", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "fuse-"));
    await using file = await open(join(directory.path, "file"), "w");
    const holder = await startHolder(file.fd);
    try {
      assert.equal(takeFromHolder(holder), undefined);
    } finally {
      stopHolder(holder);
    }
  });
});
