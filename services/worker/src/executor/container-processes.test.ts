import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { constants } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import type { Executor } from "./executor.ts";
import { fixture, runtimes, step } from "./sample-image.ts";
import { processInput } from "./stdio/process-input.ts";
import type { ProcessStreams, StartedProcess } from "./stdio/streams.ts";
import type { Command, Step } from "./step.ts";

const { SIGTERM, SIGKILL } = constants.signals;
const interrupt = "\x03";

/** Both ends of a process: what it is to be connected with, and what has come of it. */
class Peer {
  readonly input = processInput();
  readonly #started = Promise.withResolvers<StartedProcess>();
  #output = "";
  #errors = "";
  #changed = Promise.withResolvers<void>();

  streams(terminal: boolean): ProcessStreams {
    return {
      input: this.input,
      terminal,
      onStart: this.#started.resolve,
      onOutput: (stream, chunk) => {
        if (stream === 1) {
          this.#output += chunk.toString();
        } else {
          this.#errors += chunk.toString();
        }
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
      },
    };
  }

  get started(): Promise<StartedProcess> {
    return this.#started.promise;
  }

  get output(): string {
    return this.#output;
  }

  get errors(): string {
    return this.#errors;
  }

  async type(text: string): Promise<void> {
    await this.input.put(Buffer.from(text));
  }

  /** Waits until the process has written what matches. */
  async said(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.#output)) {
      await this.#changed.promise;
    }
  }
}

const unaborted = new AbortController().signal;

function start(executor: Executor, what: Step, terminal = false, signal = unaborted) {
  const peer = new Peer();
  return { peer, exit: executor.run(what, peer.streams(terminal), signal) };
}

function command(args: readonly string[], more: Partial<Command> = {}): Command {
  return { args, env: ["PATH=/bin"], secretEnv: [], cwd: "", user: "", ...more };
}

function exec(executor: Executor, { id }: Step, what: Command, terminal = false, signal = unaborted) {
  const peer = new Peer();
  return { peer, exit: executor.exec(id, what, peer.streams(terminal), signal) };
}

/** The shell's prompt is what the last line begins with, so that nothing is typed before it reads. */
const shell = { args: ["sh"], env: ["PATH=/bin", "PS1=ready> "] };

for (const runtime of runtimes) {
  describe(`a process in a terminal under ${basename(runtime)}`, () => {
    test("has it as its only stream, as large as it is told, and hears what is typed", async () => {
      await using on = await fixture(runtime);
      const { peer, exit } = start(on.executor, step(on.image, shell.args, shell), true);
      (await peer.started).resize({ rows: 41, columns: 93 });
      await peer.said(/ready> /);
      await peer.type("tty; stty size\n");
      await peer.said(/\/dev\/pts\/0\r\n41 93\r\n/);
      (await peer.started).resize({ rows: 60, columns: 100 });
      await peer.type("stty size; echo error >&2\n");
      await peer.said(/60 100\r\nerror\r\n/);
      // It says so when it can be interrupted; a shell between two commands would not hear of it.
      await peer.type(`sh -c 'trap "echo told; exit" INT; echo waiting; while :; do sleep 0.1; done'\n`);
      await peer.said(/\r\nwaiting\r\n/);
      await peer.type(interrupt);
      await peer.said(/waiting\r\n\^C(.|\n|\r)*told\r\n/);
      await peer.type("exit 7\n");
      const { code, complaint } = await exit;
      assert.deepEqual({ code, complaint, errors: peer.errors }, { code: 7, complaint: "", errors: "" });
      // Each line that was typed was echoed once.
      assert.equal(peer.output.split("tty; stty size\r\n").length, 2);
    });

    test("that is started in a container which runs has one of its own there", async () => {
      await using on = await fixture(runtime);
      const first = step(on.image, ["sleep", "3000"]);
      const running = start(on.executor, first);
      await running.peer.started;
      const { peer, exit } = exec(on.executor, first, command(shell.args, shell), true);
      await peer.said(/ready> /);
      (await peer.started).resize({ rows: 12, columns: 34 });
      await peer.type("tty; stty size\n");
      await peer.said(/\/dev\/pts\/0\r\n12 34\r\n/);
      await peer.type("exit 9\n");
      assert.equal((await exit).code, 9);
      (await running.peer.started).kill(SIGKILL);
      assert.equal((await running.exit).code, 137);
    });

    test("that writes more than anybody reads waits, and is killed all the same", async () => {
      await using on = await fixture(runtime);
      const controller = new AbortController();
      const { promise: blocked } = Promise.withResolvers<void>();
      const first = Promise.withResolvers<void>();
      let bytes = 0;
      const released = new Promise<void>((resolve) => {
        controller.signal.addEventListener("abort", () => resolve());
      });
      const running = on.executor.run(
        step(on.image, ["yes"]),
        {
          terminal: true,
          onStart: () => undefined,
          onOutput: (_stream, chunk) => {
            bytes += chunk.length;
            first.resolve();
            return Promise.race([blocked, released]);
          },
        },
        controller.signal,
      );
      await first.promise;
      controller.abort();
      assert.equal((await running).code, 137);
      assert(bytes < 16 << 20, `${bytes} bytes came through`);
    });
  });

  describe(`a process without a terminal under ${basename(runtime)}`, () => {
    test("reads what it is given to its end, and writes it unharmed", async () => {
      await using on = await fixture(runtime);
      const input = processInput();
      const [sent, received] = [createHash("sha256"), createHash("sha256")];
      let bytes = 0;
      const exit = on.executor.run(
        step(on.image, ["cat"]),
        {
          input,
          onOutput: (_stream, chunk) => {
            received.update(chunk);
            bytes += chunk.length;
          },
        },
        unaborted,
      );
      for (let chunk = 0; chunk < 320; chunk += 1) {
        const content = Buffer.alloc(65_537, chunk);
        sent.update(content);
        await input.put(content);
      }
      input.end();
      assert.equal((await exit).code, 0);
      assert.equal(bytes, 320 * 65_537);
      assert.equal(received.digest("hex"), sent.digest("hex"));
    });

    test("may end before it has read everything, and may open its streams by name", async () => {
      await using on = await fixture(runtime);
      const { peer, exit } = start(
        on.executor,
        step(on.image, ["sh", "-c", "read x; echo $x > /dev/stdout"]),
      );
      await peer.type("a line\n");
      const rest = peer.input.put(Buffer.alloc(4 << 20));
      assert.equal((await exit).code, 0);
      await rest;
      assert.equal(peer.output, "a line\n");
    });

    test("finds nothing to read if it was given nothing", async () => {
      await using on = await fixture(runtime);
      const exit = await on.executor.run(step(on.image, ["cat"]), { onOutput: () => undefined }, unaborted);
      assert.equal(exit.code, 0);
    });

    test("gets signals, by itself", async () => {
      await using on = await fixture(runtime);
      const script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
      const { peer, exit } = start(on.executor, step(on.image, ["sh", "-c", script]));
      await peer.said(/ready/);
      (await peer.started).kill(SIGTERM);
      assert.equal((await exit).code, 3);
      assert.equal(peer.output, "ready\ntold\n");
    });
  });

  describe(`a further process in a container under ${basename(runtime)}`, () => {
    async function running() {
      await using undo = new AsyncDisposableStack();
      const on = undo.use(await fixture(runtime));
      const controller = new AbortController();
      const first = step(on.image, ["sleep", "3000"], { user: "app", cwd: "/made" });
      const { peer, exit } = start(on.executor, first, false, controller.signal);
      undo.defer(async () => {
        controller.abort();
        await exit;
      });
      const process = await peer.started;
      const owned = undo.move();
      return { on, first, process, exit, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    }

    test("sees the files and the processes of the first, and is as that unless it says so", async () => {
      await using container = await running();
      const { on, first } = container;
      const script = "cat /proc/1/cmdline; echo; id -u; pwd; echo $A; touch /tmp/mine 2>/dev/null; exit 4";
      const like = exec(on.executor, first, command(["sh", "-c", script], { env: ["PATH=/bin", "A=b"] }));
      assert.equal((await like.exit).code, 4);
      assert.equal(like.peer.output, "sleep\u00003000\u0000\n1000\n/made\nb\n");
      const unlike = exec(
        on.executor,
        first,
        command(["sh", "-c", "id -u; pwd"], { user: "5:6", cwd: "/bin" }),
      );
      assert.equal((await unlike.exit).code, 0);
      assert.equal(unlike.peer.output, "5\n/bin\n");
    });

    test("is killed alone, or ends with the first", async () => {
      await using container = await running();
      const { on, first } = container;
      const controller = new AbortController();
      const one = exec(on.executor, first, command(["sleep", "3000"]), false, controller.signal);
      const other = exec(on.executor, first, command(["sleep", "3000"]));
      await Promise.all([one.peer.started, other.peer.started]);
      controller.abort();
      assert.equal((await one.exit).code, 137);
      container.process.kill(SIGKILL);
      assert.equal((await other.exit).code, 137);
      assert.equal((await container.exit).code, 137);
      await assert.rejects(exec(on.executor, first, command(["true"])).exit, (error) => {
        assert(error instanceof FailedPreconditionError);
        assert.equal(error.message, `container ${first.id} has stopped`);
        return true;
      });
    });

    test("is refused as a first one is, and tells of a command that is not there", async () => {
      await using container = await running();
      const { on, first } = container;
      const nobody = exec(on.executor, first, command(["true"], { user: "nobody" }));
      await assert.rejects(nobody.exit, NotFoundError);
      const outside = exec(on.executor, first, command(["true"], { cwd: "/proc/self/fd/7" }));
      await assert.rejects(outside.exit, /working dir .* points to invalid target/);
      const absent = exec(on.executor, first, command(["nope"]));
      const { code, complaint } = await absent.exit;
      assert.notEqual(code, 0);
      assert.match(complaint, /nope.* not found/);
      // That it has not started is told with how it ended.
      await absent.peer.started;
    });

    test("has secrets in its environment that are on no disk", async () => {
      await using container = await running();
      const { on, first } = container;
      const what = command(["sh", "-c", "echo $TOKEN; read x"], { secretEnv: ["TOKEN=s3cret"] });
      const { peer, exit } = exec(on.executor, first, what);
      await peer.said(/s3cret/);
      const bundle = join(on.bundles, first.id);
      for (const entry of await readdir(bundle, { withFileTypes: true })) {
        if (entry.isFile()) {
          assert.doesNotMatch(await readFile(join(bundle, entry.name), "utf8"), /s3cret/, entry.name);
        }
      }
      peer.input.end();
      await exit;
      assert.deepEqual(
        (await readdir(bundle)).filter((name) => name.startsWith("exec-")),
        [],
      );
    });
  });
}
