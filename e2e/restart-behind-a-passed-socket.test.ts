import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readlink, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { unixChannel } from "@oci-worker/grpc/channel";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { childrenOf, startProcess } from "./peers/process.ts";
import { type ServicePeer, startService } from "./peers/service-manager.ts";

const services = join(import.meta.dirname, "../services");

interface Case {
  readonly program: string;
  readonly args: (directory: string) => string[];
}

const cases: readonly Case[] = [
  {
    program: join(services, "snapshotter/bin/oci-snapshotter"),
    args: (directory) => ["--root", join(directory, "root"), "--address", join(directory, "unused.sock")],
  },
  {
    program: join(services, "resolver/bin/oci-resolver"),
    args: (directory) => ["--address", join(directory, "unused.sock")],
  },
  {
    program: join(services, "worker/bin/oci-worker"),
    args: (directory) => ["--root", join(directory, "root"), "--addr", "fd://"],
  },
];

/** The program on a socket that was made for it, in a directory of its own. */
async function withService(
  { program, args }: Case,
  use: (service: ServicePeer, socket: string, directory: string) => Promise<void>,
  notifySocket?: string,
): Promise<void> {
  await using temporary = await mkdtempDisposable(join(tmpdir(), "passed-"));
  const directory = temporary.path;
  const socket = join(directory, "passed.sock");
  await using service = startService({
    sockets: { main: socket },
    notifySocket: notifySocket ?? join(directory, "notify.sock"),
    program,
    args: args(directory),
    environment: { DOCKER_CONFIG: directory },
  });
  await use(service, socket, directory);
}

/** Opens a connection and asks whether it is served. Nothing is tried twice. */
async function askOnce(socket: string): Promise<void> {
  using channel = unixChannel(socket);
  const { status } = await createClient(Health, channel).check({});
  assert.equal(status, ServingStatus.SERVING);
}

for (const service of cases) {
  const name = service.program.split("/").at(-1) ?? "";
  describe(`${name} on a socket that it was passed`, () => {
    test("refuses no connection while it is killed and started again", (context) =>
      withService(service, async (running, socket) => {
        await running.line(/^told READY=1$/);
        let isOver = false;
        let answered = 0;
        let kills = 0;
        const lost: string[] = [];
        const ask = async () => {
          while (!isOver) {
            const killsBefore = kills;
            try {
              await askOnce(socket);
              answered += 1;
            } catch (error) {
              // Whoever spoke to the process that was killed has lost the answer; nobody else has lost anything.
              lost.push(`${error}`);
              assert.notEqual(kills, killsBefore, `lost without a kill: ${error}`);
              assert.doesNotMatch(String(error), /ECONNREFUSED|ENOENT/);
            }
          }
        };
        const asking = Promise.all([ask(), ask(), ask()]);
        // It is waited for below, once the rounds are over.
        asking.catch(() => undefined);
        try {
          for (let round = 0; round < 3; round += 1) {
            const known = running.log.length;
            kills += 1;
            await running.kill();
            // From here on nobody can have spoken to the old one: this waits, and is answered by the new one.
            await askOnce(socket);
            await running.line(/^told READY=1$/, known);
          }
        } finally {
          isOver = true;
        }
        await asking;
        assert(answered >= 3);
        context.diagnostic(
          `${answered} calls answered, ${lost.length} lost with the process that was killed`,
        );
      }));

    test("makes no socket of its own, and leaves the one that it was passed", () =>
      withService(service, async (running, socket, directory) => {
        await running.line(/^told READY=1$/);
        const own = new RegExp(`"name":"${name.slice("oci-".length)}".*"msg":"serving"`);
        const line = await running.line(own);
        assert(line.includes(name === "oci-worker" ? "fd://" : socket), line);
        await assert.rejects(stat(join(directory, "unused.sock")), { code: "ENOENT" });
        const known = running.log.length;
        process.kill(running.pid, "SIGTERM");
        await running.line(/^told STOPPING=1$/, known);
        await running.line(/^told READY=1$/, known);
        assert((await stat(socket)).isSocket());
        await askOnce(socket);
      }));
  });
}

const [snapshotter, , worker] = cases as readonly [Case, Case, Case];

describe("a service manager", () => {
  test("is told on a socket in the abstract name space as well", () =>
    withService(
      snapshotter,
      async (running) => {
        await running.line(/^told READY=1$/);
        const known = running.log.length;
        process.kill(running.pid, "SIGTERM");
        await running.line(/^told STOPPING=1$/, known);
      },
      `@oci-worker-test-${process.pid}`,
    ));

  test("that cannot be told keeps nobody from serving", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "passed-"));
    const address = join(directory.path, "s.sock");
    await using running = await startProcess({
      program: snapshotter.program,
      args: ["--root", join(directory.path, "root"), "--address", address],
      environment: { NOTIFY_SOCKET: join(directory.path, "nobody.sock") },
      ready: /service manager cannot be told/,
    });
    await askOnce(address);
    assert.equal(await running.stop(), 0);
  });

  test("that asks for settings to be read anew by SIGHUP ends nothing", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "passed-"));
    const address = join(directory.path, "s.sock");
    await using running = await startProcess({
      program: snapshotter.program,
      args: ["--root", join(directory.path, "root"), "--address", address],
      ready: /"msg":"serving"/,
    });
    process.kill(running.pid, "SIGHUP");
    await askOnce(address);
    assert.equal(await running.stop(), 0);
    assert(running.log.some((line) => line.includes("settings are read at the start only")));
  });

  test("of systemd's own make starts the snapshotter with the first connection", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "passed-"));
    const socket = join(directory.path, "s.sock");
    await using running = await startProcess({
      program: "systemd-socket-activate",
      args: ["--listen", socket, snapshotter.program, "--root", join(directory.path, "root")],
      ready: /Listening on/,
    });
    await using proxy = openProxy(socket, { snapshotter: "test" });
    assert.equal((await proxy.prepare("key", undefined, {})).length, 1);
    assert.equal(await running.stop(), 0);
  });

  test("passes a socket for the resolver by name, and no program of the worker's inherits any", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "passed-"));
    const [control, session] = [join(directory.path, "c.sock"), join(directory.path, "session.sock")];
    await using running = startService({
      sockets: { control, session },
      notifySocket: join(directory.path, "notify.sock"),
      program: worker.program,
      args: worker.args(directory.path),
      environment: { DOCKER_CONFIG: directory.path },
    });
    await running.line(/^told READY=1$/);
    await askOnce(control);
    await assert.rejects(stat(join(directory.path, "root/session.sock")), { code: "ENOENT" });
    const own = await socketsOf(running.pid);
    const passed = new Set([own.get(3), own.get(4)]);
    assert.equal(passed.size, 2);
    const children = await childrenOf(running.pid);
    assert.equal(children.length, 2);
    for (const child of children) {
      const inherited = [...(await socketsOf(child)).values()].filter((inode) => passed.has(inode));
      assert.deepEqual(inherited, []);
    }
  });

  test("that passes what is no listening socket is told so", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "passed-"));
    const started = startProcess({
      program: "/bin/sh",
      args: ["-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3</dev/null', "sh", snapshotter.program].concat(
        snapshotter.args(directory.path),
      ),
      ready: /"msg":"serving"/,
    });
    await assert.rejects(started, /Cannot take descriptor 3 of the service manager: ENOTSOCK/);
  });
});

/** Inodes of the sockets of a process, by descriptor (proc(5)). */
async function socketsOf(pid: number): Promise<Map<number, string>> {
  const directory = `/proc/${pid}/fd`;
  const sockets = new Map<number, string>();
  for (const fd of await readdir(directory)) {
    const target = await readlink(join(directory, fd)).catch(() => "");
    if (target.startsWith("socket:")) {
      sockets.set(Number(fd), target);
    }
  }
  return sockets;
}
