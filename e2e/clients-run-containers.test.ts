import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import type { BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import type { Container, ProcessExit, ProcessOptions } from "@oci-worker/client/container";
import type { BuildRef, ContainerOptions, Gateway } from "@oci-worker/client/gateway";
import { definitionOf, image, run, scratch, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { createImage } from "./peers/image.ts";
import { untilGone } from "./peers/process.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const crun = join(import.meta.dirname, "../services/worker/src/executor/sample-crun.sh");
const env = ["PATH=/bin", "PS1=ready> "];
const interrupt = "\x03";

async function fixture(args: readonly string[] = []) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const worker = undo.use(await startWorker({ args }));
  const owned = undo.move();
  return { reference, worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

interface OpenContainer {
  readonly gateway: Gateway;
  readonly root: BuildRef;
  readonly container: Container;
}

/** Builds an image, and does `work` in a container of it. */
async function inContainer(
  { client }: WorkerPeer,
  reference: Reference,
  work: (open: OpenContainer) => Promise<void>,
  options: BuildOptions = {},
  more: Partial<ContainerOptions> = {},
): Promise<void> {
  const build = client.build(async (gateway) => {
    const root = await gateway.solve(definitionOf(image(reference)));
    const container = await gateway.newContainer({ root, ...more });
    await work({ gateway, root, container });
    return undefined;
  }, options);
  await build.result;
}

/** What a process reads, typed one after the other. */
class Typed {
  readonly #chunks: (Buffer | undefined)[] = [];
  #changed = Promise.withResolvers<void>();

  type(text: string): void {
    this.#chunks.push(Buffer.from(text));
    this.#changed.resolve();
  }

  end(): void {
    this.#chunks.push(undefined);
    this.#changed.resolve();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      if (this.#chunks.length === 0) {
        this.#changed = Promise.withResolvers();
        await this.#changed.promise;
      }
      const chunk = this.#chunks.shift();
      if (chunk === undefined) {
        return;
      }
      yield chunk;
    }
  }
}

/** A process, with all that it has written. */
class Peer {
  readonly input = new Typed();
  readonly output: Record<1 | 2, string> = { 1: "", 2: "" };
  #changed = Promise.withResolvers<void>();

  options(args: readonly string[], more: Partial<ProcessOptions> = {}): ProcessOptions {
    return {
      args,
      env,
      input: this.input,
      onOutput: (fd, data) => {
        this.output[fd] += Buffer.from(data).toString();
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
      },
      ...more,
    };
  }

  async said(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.output[1])) {
      await this.#changed.promise;
    }
  }
}

async function start(container: Container, args: readonly string[], more: Partial<ProcessOptions> = {}) {
  const peer = new Peer();
  const process = await container.start(peer.options(args, more));
  return { peer, process };
}

/** Runs a process to its end. */
async function ends(container: Container, args: readonly string[], more: Partial<ProcessOptions> = {}) {
  const { peer, process } = await start(container, args, more);
  return { ...(await process.exit), stdout: peer.output[1], stderr: peer.output[2] };
}

function failedWith(exit: ProcessExit, code: number, message: RegExp): void {
  assert.equal(exit.code, code);
  assert(exit.error instanceof BuildError, String(exit.error));
  assert.match(exit.error.message, message);
}

for (const runtime of ["runc", crun]) {
  describe(`a container of a client under ${basename(runtime)}`, () => {
    const on = () => fixture(["--oci-worker-binary", runtime]);

    test("has a terminal that is resized and typed into", async () => {
      await using peers = await on();
      await inContainer(peers.worker, peers.reference, async ({ container }) => {
        const { peer, process } = await start(container, ["sh"], { terminal: true });
        process.resize(40, 80);
        await peer.said(/ready> /);
        peer.input.type("busybox tty; busybox stty size; echo $TERM\n");
        await peer.said(/\/dev\/pts\/0\r\n40 80\r\nxterm\r\n/);
        process.resize(60, 100);
        peer.input.type("busybox stty size\n");
        await peer.said(/60 100\r\n/);
        peer.input.type(`sh -c 'trap "echo told; exit" INT; echo waiting; while :; do sleep 0.1; done'\n`);
        await peer.said(/\r\nwaiting\r\n/);
        peer.input.type(interrupt);
        await peer.said(/\^C(.|\r|\n)*told\r\n/);
        peer.input.type("echo error >&2; exit 99\n");
        failedWith(await process.exit, 99, /^exit code: 99$/);
        assert.equal(peer.output[2], "");
        assert.match(peer.output[1], /\r\nerror\r\n/);
      });
      await peers.worker.assertClean();
    });

    test("carries 20 MB in and out unharmed, to the end of the input", async () => {
      await using peers = await on();
      await inContainer(peers.worker, peers.reference, async ({ container }) => {
        const [sent, received] = [createHash("sha256"), createHash("sha256")];
        async function* input() {
          for (let index = 0; index < 320; index += 1) {
            const chunk = Buffer.alloc(65_537, index);
            sent.update(chunk);
            yield chunk;
          }
        }
        let bytes = 0;
        const process = await container.start({
          args: ["cat"],
          env,
          input: input(),
          onOutput: (_fd, data) => {
            received.update(data);
            bytes += data.length;
          },
        });
        assert.deepEqual(await process.exit, { code: 0, error: undefined });
        assert.equal(bytes, 320 * 65_537);
        assert.equal(received.digest("hex"), sent.digest("hex"));
      });
    });

    test("has further processes, which end with the first", async () => {
      await using peers = await on();
      await inContainer(peers.worker, peers.reference, async ({ container }) => {
        const first = await start(container, ["sh", "-c", "echo here > /file; echo ready; read x; exit 0"]);
        await first.peer.said(/ready/);
        const script = "cat /file; busybox tr '\\0' ' ' < /proc/1/cmdline; id -u; pwd";
        const seen = await ends(container, ["sh", "-c", script], { user: "5:6", cwd: "/bin" });
        assert.equal(seen.stdout, "here\nsh -c echo here > /file; echo ready; read x; exit 0 5\n/bin\n");
        const trap = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
        const told = await start(container, ["sh", "-c", trap]);
        await told.peer.said(/ready/);
        told.process.signal("TERM");
        failedWith(await told.process.exit, 7, /^exit code: 7$/);
        assert.equal(told.peer.output[1], "ready\ntold\n");
        const left = await start(container, ["sh", "-c", "echo ready; sleep 3000; exit 1"]);
        await left.peer.said(/ready/);
        first.peer.input.end();
        assert.deepEqual(await first.process.exit, { code: 0, error: undefined });
        failedWith(await left.process.exit, 137, /^exit code: 137$/);
        failedWith(await ends(container, ["true"]), 255, /^container \w+ has stopped$/);
      });
    });

    test("tells of a command that is not there, and of a user that is not", async () => {
      await using peers = await on();
      await inContainer(peers.worker, peers.reference, async ({ gateway, root, container }) => {
        failedWith(await ends(container, ["nope"]), 127, /nope.* not found.*exit code: 127$/s);
        const other = await gateway.newContainer({ root });
        failedWith(await ends(other, ["true"], { user: "nobody" }), 255, /^unable to find user nobody/);
      });
    });

    test("is released with all that runs in it, also when its client goes away", async () => {
      await using peers = await on();
      const { worker, reference } = peers;
      await inContainer(worker, reference, async ({ container }) => {
        const { process } = await start(container, ["sleep", "3000"]);
        const other = await start(container, ["sleep", "3000"]);
        await assert.rejects(container.release(), /^BuildError: exit code: 137: context canceled$/);
        failedWith(await process.exit, 137, /context canceled$/);
        failedWith(await other.process.exit, 137, /context canceled$/);
        await assert.rejects(ends(container, ["true"]), /previously released or not created$/);
      });
      await worker.assertClean();
      const controller = new AbortController();
      const running = inContainer(
        worker,
        reference,
        async ({ container }) => {
          const { process } = await start(container, ["sleep", "3000"], { terminal: true });
          controller.abort();
          await process.exit;
        },
        { signal: controller.signal },
      );
      await assert.rejects(running);
      await worker.assertClean();
    });

    test("of a build that ends goes with it, released or not", async () => {
      await using peers = await on();
      await inContainer(peers.worker, peers.reference, async ({ container, gateway, root }) => {
        await start(container, ["sleep", "3000"]);
        await gateway.newContainer({ root });
      });
      await peers.worker.assertClean();
    });
  });
}

describe("a container of a client", () => {
  test("has the mounts that it asks for, and results in their places", async () => {
    await using on = await fixture();
    const step = (root: Tree, script: string, mounts = {}) =>
      run({ root, args: ["sh", "-c", script], env, ...mounts });
    const secrets = (id: string) => Promise.resolve(id === "token" ? Buffer.from("s3cret") : undefined);
    const build = on.worker.client.build(
      async (gateway) => {
        const made = step(image(on.reference), "echo made > /out/file; echo kept > /cache/file", {
          mounts: [
            { type: "bind", dest: "/out", from: scratch },
            { type: "cache", dest: "/cache", id: "c" },
          ],
        });
        const root = await gateway.solve(definitionOf(image(on.reference)));
        const out = await gateway.solve(definitionOf(made.mounts.get("/out") ?? assert.fail("no output")));
        const container = await gateway.newContainer({
          root,
          hostname: "box",
          extraHosts: [{ host: "some.host", ip: "169.254.11.22" }],
          network: "none",
          mounts: [
            { type: "bind", dest: "/in", from: out, readonly: true },
            { type: "bind", dest: "/own", from: out },
            { type: "cache", dest: "/cache", id: "c" },
            { type: "tmpfs", dest: "/memory" },
            { type: "secret", dest: "/run/token", id: "token" },
          ],
        });
        const script = [
          "cat /in/file /own/file /cache/file /run/token; echo",
          "echo more > /own/more; echo more > /in/more",
          "stat -fc %T /memory; cat /proc/sys/kernel/hostname; echo $TOKEN",
          "busybox grep some.host /etc/hosts; busybox grep -c : /proc/net/dev",
        ].join(";");
        const secretEnv = [{ name: "TOKEN", id: "token" }];
        const first = await ends(container, ["sh", "-c", script], { secretEnv });
        assert.deepEqual(first.stdout.split("\n"), [
          ...["made", "made", "kept", "s3cret", "tmpfs", "box", "s3cret"],
          ...["169.254.11.22\tsome.host", "1", ""],
        ]);
        assert.match(first.stderr, /\/in\/more: Read-only file system/);
        // What its processes write is no part of any result.
        const again = await gateway.newContainer({ root: out });
        await assert.rejects(
          gateway.newContainer({ root, mounts: [{ type: "secret", dest: "/x", id: "no" }] }),
        );
        await again.release();
        return undefined;
      },
      { secrets },
    );
    await build.result;
  });

  test("needs what it reaches beyond the sandbox to be allowed (CVE-2024-23653)", async () => {
    await using on = await fixture(["--allow-insecure-entitlement", "security.insecure"]);
    const status = ["cat", "/proc/self/status"];
    await inContainer(on.worker, on.reference, async ({ gateway, root, container }) => {
      await assert.rejects(gateway.newContainer({ root, network: "host" }), /network\.host is not allowed$/);
      await assert.rejects(
        ends(container, status, { security: "insecure" }),
        /security\.insecure is not allowed$/,
      );
      assert.match((await ends(container, status)).stdout, /^Seccomp:\t2$/m);
    });
    const entitlements = ["security.insecure"];
    await inContainer(
      on.worker,
      on.reference,
      async ({ container }) => {
        const { stdout } = await ends(container, status, { security: "insecure" });
        assert.match(stdout, /^Seccomp:\t0$/m);
      },
      { entitlements },
    );
  });

  test("is refused texts that the kernel would cut short, and variables that would show a secret", async () => {
    await using on = await fixture();
    const secrets = () => Promise.resolve(Buffer.from("c4n4ry"));
    await inContainer(
      on.worker,
      on.reference,
      async ({ gateway, root, container }) => {
        await assert.rejects(
          gateway.newContainer({ root, hostname: "a\0b" }),
          /"a\\u0000b" has a zero byte$/,
        );
        const wrong: readonly Partial<ProcessOptions>[] = [
          { args: ["true", "a\0b"] },
          { env: ["A=a\0b"] },
          { cwd: "/a\0b" },
          { user: "a\0b" },
        ];
        for (const more of wrong) {
          await assert.rejects(ends(container, ["true"], more), /a\\u0000b" has a zero byte$/);
        }
        const secretEnv = [{ name: "A=B", id: "token" }];
        const end = await ends(container, ["true"], { secretEnv });
        failedWith(end, 255, /^Cannot put secret "token" into variable "A=B": want a name without "="$/);
      },
      { secrets },
    );
  });

  test("that writes more than its client reads is held back, and released all the same", async () => {
    await using on = await fixture();
    await inContainer(on.worker, on.reference, async ({ container }) => {
      const first = Promise.withResolvers<void>();
      const released = Promise.withResolvers<void>();
      let bytes = 0;
      const process = await container.start({
        args: ["yes"],
        env,
        onOutput: async (_fd, data) => {
          bytes += data.length;
          first.resolve();
          await released.promise;
        },
      });
      await first.promise;
      const releasing = container.release().catch(() => undefined);
      released.resolve();
      await releasing;
      failedWith(await process.exit, 137, /context canceled$/);
      assert(bytes < 64 << 20, `${bytes} bytes came through`);
    });
  });

  test("is ended by a worker that is asked to end, and removed after one that is killed", async () => {
    await using on = await fixture(["--stop-timeout", "0s"]);
    const { worker, reference } = on;
    const pid = Promise.withResolvers<number>();
    const building = inContainer(worker, reference, async ({ container }) => {
      const { process } = await start(container, ["sleep", "3000"], { terminal: true });
      const [id = ""] = await readdir(join(worker.root, "executor"));
      pid.resolve(Number(await readFile(join(worker.root, "executor", id, "pid"), "utf8")));
      await process.exit;
    });
    const failed = assert.rejects(building);
    const first = await pid.promise;
    assert.equal(await worker.process.stop(), 0);
    await failed;
    await untilGone(first);
    await using again = await startWorker({ directory: worker.directory });
    const killed = inContainer(again, reference, async ({ container }) => {
      await start(container, ["sleep", "3000"], { terminal: true });
      await again.process.kill();
    });
    await assert.rejects(killed);
    await using last = await startWorker({ directory: worker.directory });
    await last.assertClean();
  });
});
