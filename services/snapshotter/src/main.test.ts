import assert from "node:assert/strict";
import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, readdir, rename, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { openProxy } from "@oci-worker/snapshots/proxy";

const program = join(import.meta.dirname, "../bin/oci-snapshotter");

type Child = ChildProcessByStdio<null, Readable, Readable>;

/** The program in a directory of its own, ended with the scope. */
class Running implements AsyncDisposable {
  readonly child: Child;
  readonly lines: AsyncIterator<string>;
  readonly #stderr: Promise<string>;
  readonly exited: Promise<unknown[]>;

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.child = spawn(program, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    this.exited = once(this.child, "exit");
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.#stderr = text(this.child.stderr);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGKILL");
      await this.exited;
    }
  }

  /** The first line of the log that `message` is the message of. */
  async line(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done === true) {
        throw new Error(`it ended before it logged ${JSON.stringify(message)}: ${await this.#stderr}`);
      }
      const line: Record<string, unknown> = JSON.parse(value);
      if (line["msg"] === message) {
        return line;
      }
    }
  }

  async stop(signal: NodeJS.Signals): Promise<unknown[]> {
    this.child.kill(signal);
    return this.exited;
  }

  /** Waits for it to fail; what it says to a person. */
  async failure(): Promise<string> {
    const [code] = await this.exited;
    assert.equal(code, 1);
    return this.#stderr;
  }
}

interface Place {
  readonly directory: string;
  readonly root: string;
  readonly address: string;
  /** Flags for that root and socket. */
  readonly args: readonly string[];
}

async function withPlace(use: (place: Place) => Promise<void>): Promise<void> {
  await using temporary = await mkdtempDisposable(join(tmpdir(), "oci-snapshotter-"));
  const directory = temporary.path;
  const root = join(directory, "root");
  const address = join(directory, "s.sock");
  await use({ directory, root, address, args: ["--root", root, "--address", address] });
}

describe("oci-snapshotter", () => {
  test("says in one line that it serves when its socket accepts, and exits with 0 on SIGTERM and SIGINT", () =>
    withPlace(async ({ root, address, args }) => {
      for (const signal of ["SIGTERM", "SIGINT"] as const) {
        await using running = new Running(args);
        const line = await running.line("serving");
        assert.deepEqual([line["address"], line["root"], line["backend"]], [address, root, "overlayfs"]);
        await using snapshotter = openProxy(address, { snapshotter: "test" });
        assert.deepEqual(await Array.fromAsync(snapshotter.walk([])), []);
        assert.deepEqual(await running.stop(signal), [0, null]);
        await assert.rejects(stat(address), { code: "ENOENT" });
      }
    }));

  test("logs at debug what each call was about and how it ended, and at info none of them", () =>
    withPlace(async ({ address, args }) => {
      await using running = new Running([...args, "--log-level", "debug"]);
      await running.line("serving");
      await using snapshotter = openProxy(address, { snapshotter: "test" });
      await snapshotter.prepare("key", undefined, { "containerd.io/snapshot/x": "a label" });
      const prepared = await running.line("call ended");
      assert.deepEqual(Object.keys(prepared).slice(3), ["rpc", "code", "durationMs", "client", "key", "msg"]);
      assert.deepEqual(
        [prepared["rpc"], prepared["code"], prepared["client"], prepared["key"]],
        ["containerd.services.snapshots.v1.Snapshots/Prepare", "OK", "test", "key"],
      );
      await assert.rejects(snapshotter.view("key", "nothing", {}));
      const refused = await running.line("call ended");
      assert.deepEqual([refused["code"], refused["parent"]], ["NotFound", "nothing"]);
      assert.match(String(refused["reason"]), /Cannot view "key": parent "nothing"/);
      await running.stop("SIGTERM");

      await using quiet = new Running(args);
      await quiet.line("serving");
      await snapshotter.remove("key");
      await quiet.stop("SIGTERM");
      const messages = (await Array.fromAsync({ [Symbol.asyncIterator]: () => quiet.lines })).map(
        (line) => JSON.parse(line).msg,
      );
      assert.deepEqual(messages, ["stopping"]);
    }));

  test("takes a socket with unix:// before it", () =>
    withPlace(async ({ root, address }) => {
      await using running = new Running(["--root", root, "--address", `unix://${address}`]);
      assert.equal((await running.line("serving"))["address"], address);
    }));

  test("has after a kill -9 what it has acknowledged, and goes on", () =>
    withPlace(async ({ args, address }) => {
      await using snapshotter = openProxy(address, { snapshotter: "test", patienceMs: 10_000 });
      await using first = new Running(args);
      await first.line("serving");
      await snapshotter.prepare("filling", undefined, {});
      await snapshotter.commit("base", "filling", { a: "1" });
      const mounts = await snapshotter.prepare("key", "base", {});
      const inFlight = Promise.allSettled(
        Array.from({ length: 50 }, (_, index) => snapshotter.prepare(`in flight ${index}`, "base", {})),
      );
      await first.stop("SIGKILL");
      const outcomes = await inFlight;

      await using second = new Running(args);
      await second.line("serving");
      assert.deepEqual(await snapshotter.mounts("key"), mounts);
      assert.deepEqual((await snapshotter.stat("base")).labels, { a: "1" });
      for (const [index, outcome] of outcomes.entries()) {
        if (outcome.status === "fulfilled") {
          assert.deepEqual(await snapshotter.mounts(`in flight ${index}`), outcome.value);
        }
      }
      await snapshotter.prepare("afterwards", "base", {});
      await snapshotter.cleanup();
    }));

  test("leaves no directory without a snapshot after a kill -9, a restart and a clean-up", () =>
    withPlace(async ({ args, root, address }) => {
      await using snapshotter = openProxy(address, { snapshotter: "test", patienceMs: 10_000 });
      await using first = new Running(args);
      await first.line("serving");
      const removing = Array.from({ length: 60 }, async (_, index) => {
        await snapshotter.prepare(`key ${index}`, undefined, {});
        await snapshotter.remove(`key ${index}`);
      });
      await Promise.race(removing);
      await first.stop("SIGKILL");
      await Promise.allSettled(removing);

      await using second = new Running(args);
      await second.line("serving");
      await snapshotter.cleanup();
      const live = await Array.fromAsync(snapshotter.walk([]));
      assert.equal((await readdir(join(root, "snapshots"))).length, live.length);
    }));

  test("refuses a root that another one has, and names its pid", () =>
    withPlace(async ({ args, directory, root }) => {
      await using running = new Running(args);
      await running.line("serving");
      await using second = new Running(["--root", root, "--address", join(directory, "other.sock")]);
      const failure = await second.failure();
      // The program is a shell script that becomes node: one pid.
      assert.match(failure, new RegExp(`\\b${running.child.pid}\\b`));
      assert.match(failure, /another instance/);
    }));

  test("refuses a socket that is served, and replaces one that a dead process has left", () =>
    withPlace(async ({ args, directory, address }) => {
      await using running = new Running(args);
      await running.line("serving");
      await using second = new Running(["--root", join(directory, "other"), "--address", address]);
      assert.match(await second.failure(), /another process serves this socket/);
      await running.stop("SIGKILL");
      assert((await stat(address)).isSocket());
      await using third = new Running(args);
      await third.line("serving");
    }));

  test("reads its config file, and flags are above it", () =>
    withPlace(async ({ directory, root, address }) => {
      const file = join(directory, "config.toml");
      await writeFile(file, `root = "${root}"\naddress = "/nowhere/s.sock"\nsnapshotter = "native"\n`);
      await using running = new Running(["--config", file, "--address", address]);
      const line = await running.line("serving");
      assert.deepEqual([line["address"], line["root"], line["backend"]], [address, root, "native"]);
    }));

  const failures: readonly (readonly [name: string, args: readonly string[], toml: string, error: RegExp])[] =
    [
      ["an unknown flag", ["--rot", "/x"], "", /Unknown option '--rot'/],
      ["an unknown key", [], 'rooot = "/x"', /unknown key "rooot", want root /],
      ["TOML that is none", [], "root = ", /line 1/],
      [
        "an unknown snapshotter",
        ["--snapshotter", "zfs"],
        "",
        /snapshotter is "zfs", want one of auto, native/,
      ],
      [
        "a snapshotter without what it needs",
        ["--snapshotter", "stargz"],
        "",
        /want its socket as resolverAddress/,
      ],
      ["an unknown log level", ["--log-level", "loud"], "", /"loud": want one of trace/],
    ];
  for (const [name, args, toml, error] of failures) {
    test(`says what is wrong with ${name}`, () =>
      withPlace(async (place) => {
        const file = join(place.directory, "config.toml");
        await writeFile(file, toml);
        await using running = new Running([...place.args, "--config", file, ...args]);
        const failure = await running.failure();
        assert.match(failure, error);
        assert(failure.startsWith("oci-snapshotter: Cannot "), failure);
      }));
  }

  test("fails if a config file that was named is not there", () =>
    withPlace(async ({ args, directory }) => {
      await using running = new Running([...args, "--config", join(directory, "nothing.toml")]);
      assert.match(await running.failure(), /there is no such file/);
    }));

  test("checks and mends what one that has ended has left, and not what one that runs has", () =>
    withPlace(async ({ args, root, address }) => {
      const fsck = (...flags: string[]) =>
        promisify(execFile)(program, ["--root", root, ...flags]).then(
          ({ stdout }) => ({ code: 0, stdout, stderr: "" }),
          (error: { readonly code: number; readonly stdout: string; readonly stderr: string }) => error,
        );
      {
        await using running = new Running(args);
        await running.line("serving");
        await using snapshotter = openProxy(address, { snapshotter: "test", patienceMs: 10_000 });
        await snapshotter.prepare("lost", undefined, {});
        await snapshotter.prepare("kept", undefined, {});
        const refusal = await fsck("--check");
        assert.equal(refusal.code, 1);
        assert.match(refusal.stderr, new RegExp(`Its pid is ${running.child.pid}`));
        await running.stop("SIGKILL");
      }
      const [name = ""] = (await readdir(join(root, "snapshots"))).sort((a, b) => Number(a) - Number(b));
      assert.deepEqual((await fsck("--check")).code, 0);
      await rename(join(root, "snapshots", name), join(root, "elsewhere"));
      const damaged = await fsck("--check");
      assert.equal(damaged.code, 1);
      assert.match(damaged.stdout, /^problem missing-directory "lost": snapshots\/\d+\/fs is not there \(/m);
      assert.match(damaged.stdout, /: damaged; problems: 1, leftovers: \d+, snapshots: 2$/m);
      const report = JSON.parse((await fsck("--check", "--json")).stdout);
      assert.deepEqual([report.clean, report.snapshots, report.root], [false, 2, root]);
      const mended = await fsck("--repair");
      assert.equal(mended.code, 0, mended.stdout);
      assert.match(mended.stdout, /: mended; /);
      assert.equal((await fsck("--check")).code, 0);
      assert.match((await fsck("--json")).stderr, /want it with --check or --repair/);
      await using running = new Running(args);
      await running.line("serving");
      await using snapshotter = openProxy(address, { snapshotter: "test", patienceMs: 10_000 });
      assert.deepEqual(
        (await Array.fromAsync(snapshotter.walk([]))).map((info) => info.name),
        ["kept"],
      );
    }));

  test("prints its flags when asked", async () => {
    const child = spawn(program, ["--help"], { stdio: ["ignore", "pipe", "inherit"] });
    assert.match(await text(child.stdout), /--snapshotter NAME/);
  });

  test("fails if its socket cannot be made", () =>
    withPlace(async ({ directory, root }) => {
      await writeFile(join(directory, "file"), "");
      await using running = new Running(["--root", root, "--address", join(directory, "file", "s.sock")]);
      assert.match(await running.failure(), /ENOTDIR|EEXIST/);
    }));

  test("refuses a socket that answers, whoever serves it", () =>
    withPlace(async ({ args, address }) => {
      const other = createServer().listen(address);
      await once(other, "listening");
      try {
        await using running = new Running(args);
        assert.match(await running.failure(), /another process serves this socket/);
      } finally {
        other.close();
      }
    }));
});
