import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readSync } from "node:fs";
import { chmod, mkdtempDisposable, open, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type ProgramEnd, programFor, startProgram } from "./program.ts";

const never = new AbortController().signal;

/** A directory that everybody may enter, for a program that runs as nobody. */
async function scratch() {
  const directory = await mkdtempDisposable(join(tmpdir(), "program-"));
  await chmod(directory.path, 0o755);
  return directory;
}

async function script(path: string, text: string): Promise<string> {
  await writeFile(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}

/** Runs `use` with `path` as the search path. */
async function withPath<T>(path: string, use: () => Promise<T>): Promise<T> {
  const before = process.env["PATH"];
  process.env["PATH"] = path;
  try {
    return await use();
  } finally {
    process.env["PATH"] = before;
  }
}

describe("programFor", () => {
  test("finds igzip and zstd for blobs that are large enough", async () => {
    await using directory = await scratch();
    await using blob = await open(await script(join(directory.path, "igzip"), ""));
    await script(join(directory.path, "zstd"), "");
    await withPath(`/none:relative::${directory.path}`, async () => {
      assert.equal(await programFor("gzip", blob, 5_000_000), join(directory.path, "igzip"));
      assert.equal(await programFor("zstd", blob, 5_000_000), join(directory.path, "zstd"));
      assert.equal(await programFor("gzip", blob, 4_000_000), undefined);
      assert.equal(await programFor("none", blob, 5_000_000), undefined);
    });
  });

  test("finds nothing where nothing executable is", async () => {
    await using directory = await scratch();
    await using blob = await open(await script(join(directory.path, "igzip"), ""));
    await chmod(join(directory.path, "igzip"), 0o644);
    await withPath(directory.path, async () => {
      assert.equal(await programFor("gzip", blob, 5_000_000), undefined);
    });
  });

  test("leaves eStargz blobs to node:zlib", async () => {
    await using directory = await scratch();
    await script(join(directory.path, "igzip"), "");
    const footer = Buffer.alloc(51);
    footer.write("SG\x16\x000000000000000000STARGZ", 12, "latin1");
    const path = join(directory.path, "blob");
    await writeFile(path, Buffer.concat([randomBytes(5_000_000), footer]));
    await using blob = await open(path);
    await withPath(directory.path, async () => {
      assert.equal(await programFor("gzip", blob, 5_000_051), undefined);
    });
  });
});

describe("startProgram", () => {
  /** All that a program writes. */
  function output(fd: number): string {
    const bytes = Buffer.alloc(10_000);
    let end = 0;
    for (let length = -1; length !== 0; end += length) {
      length = readSync(fd, bytes, end, bytes.length - end, null);
    }
    return bytes.toString("utf8", 0, end);
  }

  test("gives it the blob, the rights of nobody, and no variables", async () => {
    await using directory = await scratch();
    const text = 'echo "$@"; cat; id -u; id -g; id -G; echo "home is $HOME"';
    const path = await script(join(directory.path, "program"), text);
    await writeFile(join(directory.path, "blob"), "content\n", { mode: 0o600 });
    await using blob = await open(join(directory.path, "blob"));
    const { promise, resolve } = Promise.withResolvers<ProgramEnd>();
    await using program = startProgram(path, blob.fd, false, resolve, never);
    assert(program !== undefined);
    const lines = output(program.outputFd).split("\n");
    assert.deepEqual(lines, ["-d -c", "content", "65534", "65534", "65534", "home is ", ""]);
    assert.equal(await promise, "succeeded");
  });

  const ends = [
    { name: "0", text: "exit 0", end: "succeeded" },
    { name: "1", text: "exit 1", end: "failed" },
    { name: "a signal", text: "kill -9 $$", end: "killed" },
  ];
  for (const { name, text, end } of ends) {
    test(`says how it ended when that is with ${name}`, async () => {
      await using directory = await scratch();
      const path = await script(join(directory.path, "program"), text);
      await using blob = await open(path);
      const { promise, resolve } = Promise.withResolvers<ProgramEnd>();
      await using _program = startProgram(path, blob.fd, false, resolve, never);
      assert.equal(await promise, end);
    });
  }

  test("gives nothing, and leaves nothing, if it cannot be started", async () => {
    await using blob = await open("/dev/null");
    const before = readdirSync("/proc/self/fd").length;
    assert.equal(startProgram("/none", blob.fd, false, assert.fail, never), undefined);
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });

  test("ends it when canceled, and when disposed of, and leaves no descriptor", async () => {
    await using directory = await scratch();
    const path = await script(join(directory.path, "program"), "exec cat /dev/zero");
    const before = readdirSync("/proc/self/fd").length;
    for (const cancel of [true, false]) {
      await using blob = await open(path);
      const canceler = new AbortController();
      const { promise, resolve } = Promise.withResolvers<ProgramEnd>();
      {
        await using program = startProgram(path, blob.fd, false, resolve, canceler.signal);
        assert(program !== undefined);
        assert.equal(readSync(program.outputFd, Buffer.alloc(1)), 1);
        if (cancel) {
          canceler.abort();
          assert.equal(await promise, "killed");
        }
      }
      assert.equal(await promise, "killed");
    }
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });
});
