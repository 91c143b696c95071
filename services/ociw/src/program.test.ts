import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { ExecOp, SourceOp } from "@oci-worker/api/buildkit/llb";
import { Auth } from "@oci-worker/api/session/auth";
import { type FakeBuild, type FakeDaemonOptions, startFakeDaemon } from "@oci-worker/client/fake-daemon";
import { failedStep } from "@oci-worker/client/fake-daemon/failed-step";
import { directoryTree } from "@oci-worker/fsutil/directory-tree";
import { FileSendPackets } from "@oci-worker/fsutil/file-send";
import { calling } from "@oci-worker/fsutil/packet-stream";
import { sendTree } from "@oci-worker/fsutil/send";
import { loadDefinition, type Vertex } from "@oci-worker/llb/definition";

const program = join(import.meta.dirname, "../bin/ociw");

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** This program as a process, talking to a daemon of the test. */
class Place {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  get socketPath(): string {
    return join(this.directory, "d.sock");
  }

  start(args: readonly string[], command = program, environment: NodeJS.ProcessEnv = {}): ChildProcess {
    const env = {
      PATH: process.env["PATH"],
      BUILDKIT_HOST: `unix://${this.socketPath}`,
      DOCKER_CONFIG: join(this.directory, "docker"),
      LANG: "C.UTF-8",
      TERM: "xterm",
      ...environment,
    };
    return spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  }

  async ociw(args: readonly string[], stdin = "", environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
    const child = this.start(args, program, environment);
    child.stdin?.end(stdin);
    return await ending(child);
  }
}

async function ending(child: ChildProcess): Promise<Ended> {
  const { stdout, stderr } = child;
  assert(stdout !== null && stderr !== null);
  const [out, error, [exitCode]] = await Promise.all([buffer(stdout), buffer(stderr), once(child, "close")]);
  return { exitCode: exitCode as number | null, stdout: out, stderr: error.toString() };
}

async function withDaemon(options: FakeDaemonOptions, use: (place: Place) => Promise<void>): Promise<void> {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
  const place = new Place(dir.path);
  await using _daemon = await startFakeDaemon(place.socketPath, options);
  await use(place);
}

const imageConfig = () => ({
  os: "linux",
  architecture: "amd64",
  config: {
    Env: ["PATH=/bin", "A=1"],
    WorkingDir: "/home",
    User: "web",
    Entrypoint: ["/entry"],
    Cmd: ["default"],
  },
});

/** What the daemon is asked to run. */
interface Asked {
  readonly vertex: Vertex;
  readonly exec: ExecOp;
  readonly source: SourceOp;
}

async function asked({ solved, returned }: FakeBuild): Promise<Asked> {
  const { vertices } = loadDefinition(await solved);
  const [first, vertex] = vertices;
  await returned;
  assert(first?.op.op.case === "source" && vertex?.op.op.case === "exec");
  return { vertex, exec: vertex.op.op.value, source: first.op.op.value };
}

const at = (seconds: bigint) => ({ seconds, nanos: 0 });

/** A daemon whose step writes `out` and `err` and ends with `exitCode`. */
function daemonThatWrites(out: Buffer, err: Buffer, exitCode = 0): FakeDaemonOptions {
  return {
    imageConfig,
    build: async (build) => {
      const { vertex, source } = await asked(build);
      const own = { digest: vertex.digest, name: "the step", inputs: ["image"] };
      build.tell({
        vertexes: [
          { digest: "image", name: source.identifier, cached: true, started: at(1n), completed: at(1n) },
        ],
      });
      build.tell({ vertexes: [{ ...own, started: at(1n) }] });
      for (const [stream, data] of [
        [1n, out],
        [2n, err],
      ] as const) {
        for (let offset = 0; offset < data.length; offset += 32_768) {
          build.tell({
            logs: [{ vertex: vertex.digest, stream, msg: data.subarray(offset, offset + 32_768) }],
          });
        }
      }
      const error = exitCode === 0 ? "" : `exit code: ${exitCode}`;
      build.tell({ vertexes: [{ ...own, started: at(1n), completed: at(2n), error }] });
      if (exitCode !== 0) {
        throw failedStep(error, vertex.digest, exitCode);
      }
      return {};
    },
  };
}

describe("ociw run", () => {
  test("runs the image's own process, each time, from the image that was resolved", async () => {
    const seen = Promise.withResolvers<Asked>();
    const options: FakeDaemonOptions = {
      imageConfig,
      build: async (build) => {
        seen.resolve(await asked(build));
        return {};
      },
    };
    await withDaemon(options, async (place) => {
      assert.equal((await place.ociw(["run", "busybox"])).exitCode, 0);
      const { exec, source, vertex } = await seen.promise;
      assert.deepEqual(exec.meta?.args, ["/entry", "default"]);
      assert.deepEqual(exec.meta?.env, ["PATH=/bin", "A=1"]);
      assert.deepEqual([exec.meta?.cwd, exec.meta?.user], ["/home", "web"]);
      assert.match(
        source.identifier,
        /^docker-image:\/\/docker\.io\/library\/busybox:latest@sha256:(ab){32}$/,
      );
      assert.equal(vertex.metadata.ignoreCache, true);
    });
  });

  test("overrides what the command line overrides, and asks for what that needs", async () => {
    const seen = Promise.withResolvers<readonly [Asked, readonly string[], boolean]>();
    const options: FakeDaemonOptions = {
      imageConfig,
      build: async (build) => {
        seen.resolve([await asked(build), build.request.Entitlements, build.request.ProxyNetwork]);
        return {};
      },
    };
    await withDaemon(options, async (place) => {
      const flags = [
        "--env",
        "A=2",
        "-w",
        "/tmp",
        "-u",
        "0",
        "--entrypoint",
        "sh",
        "--network",
        "host",
        "--proxy-network",
      ];
      const { exitCode } = await place.ociw(["run", ...flags, "busybox", "--", "-c", "true"]);
      assert.equal(exitCode, 0);
      const [{ exec }, entitlements, proxyNetwork] = await seen.promise;
      assert.deepEqual(exec.meta?.args, ["sh", "-c", "true"]);
      assert.deepEqual(exec.meta?.env, ["PATH=/bin", "A=2"]);
      assert.deepEqual([exec.meta?.cwd, exec.meta?.user, exec.network], ["/tmp", "0", 1]);
      assert.deepEqual(entitlements, ["network.host"]);
      assert.equal(proxyNetwork, true);
    });
  });

  test("writes what the command writes, byte for byte, and progress beside it", async () => {
    const [out, err] = [Buffer.from("out\n\0\xff partial", "latin1"), Buffer.from("err\n")];
    await withDaemon(daemonThatWrites(out, err), async (place) => {
      const { exitCode, stdout, stderr } = await place.ociw(["run", "busybox"]);
      assert.equal(exitCode, 0);
      assert.deepEqual(stdout, out);
      assert.match(stderr, /^#1 docker-image:.*\n#1 CACHED\n#2 the step\nerr\n#2 DONE 1\.0s\n$/);
    });
  });

  test("writes megabytes of it, and nothing else if it is to be quiet", async () => {
    const [out, err] = [Buffer.alloc(5_000_000, "0123456789\n"), Buffer.alloc(1_000_000, "abc\n")];
    await withDaemon(daemonThatWrites(out, err), async (place) => {
      const { stdout, stderr } = await place.ociw(["run", "--progress", "quiet", "busybox"]);
      assert(stdout.equals(out));
      assert(Buffer.from(stderr).equals(err));
    });
  });

  test("shows progress as the environment says, where the command line does not", async () => {
    await withDaemon(daemonThatWrites(Buffer.from("out"), Buffer.from("err\n")), async (place) => {
      const environment = { BUILDKIT_PROGRESS: "quiet" };
      assert.equal((await place.ociw(["run", "busybox"], "", environment)).stderr, "err\n");
      const plain = await place.ociw(["run", "--progress", "plain", "busybox"], "", environment);
      assert.match(plain.stderr, /#2 DONE/);
    });
  });

  test("keeps to the password if the environment says that no tokens are to be got here", async () => {
    const options = (seen: (authority: Promise<Uint8Array>) => void): FakeDaemonOptions => ({
      imageConfig,
      build: async (build) => {
        const auth = createClient(Auth, build.session.channel);
        const asking = auth.getTokenAuthority({ Host: "r.example", Salt: new Uint8Array(32) });
        seen(asking.then(({ PublicKey }) => PublicKey));
        await Promise.allSettled([asking]);
        await build.returned;
        return {};
      },
    });
    const authorityWith = async (environment: NodeJS.ProcessEnv) => {
      const { promise, resolve } = Promise.withResolvers<Uint8Array>();
      // It is looked at when the program has ended.
      promise.catch(() => undefined);
      await withDaemon(options(resolve), async (place) => {
        assert.equal((await place.ociw(["run", "r.example/a"], "", environment)).exitCode, 0);
      });
      return await promise;
    };
    assert.equal((await authorityWith({ BUILDKIT_NO_CLIENT_TOKEN: "0" })).length, 32);
    await assert.rejects(authorityWith({ BUILDKIT_NO_CLIENT_TOKEN: "true" }), (error) => {
      assert.equal(ConnectError.from(error).code, Code.Unavailable);
      return true;
    });
  });

  test("ends with the exit code of the command", async () => {
    await withDaemon(daemonThatWrites(Buffer.from("x"), Buffer.alloc(0), 3), async (place) => {
      const { exitCode, stderr } = await place.ociw(["run", "busybox"]);
      assert.equal(exitCode, 3);
      assert.match(stderr, /#2 ERROR: exit code: 3\n$/);
    });
  });

  test("lends the given password to the registry of the image, and to no other", async () => {
    const seen = Promise.withResolvers<string[]>();
    const options: FakeDaemonOptions = {
      imageConfig,
      build: async (build) => {
        const auth = createClient(Auth, build.session.channel);
        const ask = async (Host: string) => {
          const { Username, Secret } = await auth.credentials({ Host });
          return `${Username}:${Secret}`;
        };
        seen.resolve([await ask("r.example:5000"), await ask("registry-1.docker.io")]);
        await build.returned;
        return {};
      },
    };
    await withDaemon(options, async (place) => {
      const args = ["run", "--username", "me", "--password-stdin", "r.example:5000/a/b"];
      assert.equal((await place.ociw(args, "s3cret\n")).exitCode, 0);
      assert.deepEqual(await seen.promise, ["me:s3cret", ":"]);
    });
  });

  test("tells in one line that a password was not accepted, and not which", async () => {
    const options: FakeDaemonOptions = {
      imageConfig: () =>
        Promise.reject(new ConnectError("pulling from host failed: 401 Unauthorized", Code.Unknown)),
      build: async ({ returned }) => {
        await returned;
        throw new ConnectError("as the client said", Code.Unknown);
      },
    };
    await withDaemon(options, async (place) => {
      const args = ["run", "--progress", "quiet", "--username", "me", "--password-stdin", "r.example/a"];
      const { exitCode, stderr } = await place.ociw(args, "wrong");
      assert.equal(exitCode, 1);
      assert.equal(
        stderr,
        "ociw: Cannot pull r.example/a:latest: r.example does not accept the credentials of me (pulling from host failed: 401 Unauthorized)\n",
      );
      const anonymous = await place.ociw(["run", "--progress", "quiet", "r.example/a"]);
      assert.match(
        anonymous.stderr,
        /^ociw: Cannot pull .*: r\.example wants to know who asks, log in .*\n$/,
      );
    });
  });

  test("writes the resulting file system into a directory", async () => {
    await using files = await mkdtempDisposable(join(tmpdir(), "files-"));
    await mkdir(join(files.path, "etc"));
    await writeFile(join(files.path, "etc/made"), "hello\n");
    const options: FakeDaemonOptions = {
      imageConfig,
      build: async (build) => {
        await build.returned;
        const client = createClient(FileSendPackets, build.session.channel);
        await calling(
          (outgoing, signal) => client.diffCopy(outgoing, { signal }),
          (stream) => sendTree(stream, directoryTree(files.path)),
        );
        return {};
      },
    };
    await withDaemon(options, async (place) => {
      const output = join(place.directory, "out");
      assert.equal((await place.ociw(["run", "--output", output, "busybox"])).exitCode, 0);
      assert.equal(await readFile(join(output, "etc/made"), "utf8"), "hello\n");
    });
  });

  /** A daemon whose step goes on until it is canceled, and says when. */
  function endlessDaemon(events: string[], begun: () => void): FakeDaemonOptions {
    return {
      imageConfig,
      build: async (build) => {
        const { vertex } = await asked(build);
        const own = { digest: vertex.digest, name: "the step" };
        build.tell({ vertexes: [{ ...own, started: at(1n) }] });
        build.tell({ logs: [{ vertex: vertex.digest, stream: 1n, msg: Buffer.from("begun\n") }] });
        begun();
        await new Promise((resolve) => build.signal.addEventListener("abort", resolve, { once: true }));
        events.push("canceled");
        build.tell({ vertexes: [{ ...own, started: at(1n), completed: at(2n), error: "context canceled" }] });
        await new Promise((resolve) => setImmediate(resolve));
        events.push("cleaned up");
        return {};
      },
    };
  }

  test("that is interrupted cancels the build, waits for the daemon to clean up and ends with 130", async () => {
    const events: string[] = [];
    let child: ChildProcess | undefined;
    await withDaemon(
      endlessDaemon(events, () => undefined),
      async (place) => {
        child = place.start(["run", "busybox"]);
        child.stdout?.once("data", () => child?.kill("SIGINT"));
        const { exitCode, stderr } = await ending(child);
        events.push("ended");
        assert.equal(exitCode, 130);
        assert.deepEqual(events, ["canceled", "cleaned up", "ended"]);
        assert.match(stderr, /#1 CANCELED\nociw: .*canceled\n$/);
      },
    );
  });

  test("whose output nobody reads any more cancels the build, too", async () => {
    const events: string[] = [];
    const options: FakeDaemonOptions = {
      imageConfig,
      build: async (build) => {
        const { vertex } = await asked(build);
        const isCanceled = new Promise((resolve) => build.signal.addEventListener("abort", resolve));
        const msg = Buffer.alloc(32_768, "y\n");
        while (!build.signal.aborted) {
          build.tell({ logs: [{ vertex: vertex.digest, stream: 1n, msg }] });
          await new Promise((resolve) => setImmediate(resolve));
        }
        await isCanceled;
        events.push("canceled");
        return {};
      },
    };
    await withDaemon(options, async (place) => {
      const child = place.start(["run", "--progress", "quiet", "busybox"]);
      child.stdout?.once("data", () => child.stdout?.destroy());
      const [exitCode] = await once(child, "close");
      assert.equal(exitCode, 141);
      assert.deepEqual(events, ["canceled"]);
    });
  });

  test("shows a live tree on a terminal, the output above it, and gives the cursor back", async () => {
    await withDaemon(
      daemonThatWrites(Buffer.from("from the command\n"), Buffer.alloc(0), 4),
      async (place) => {
        // script(1) runs a command on a terminal of its own and passes on what that shows.
        const child = place.start(
          ["-qec", `stty cols 80 rows 20; ${program} run busybox`, "/dev/null"],
          "script",
        );
        child.stdin?.end();
        const { exitCode, stdout } = await ending(child);
        const shown = stdout.toString();
        assert.equal(exitCode, 4);
        const [beforeLast, last] = shown.split("from the command\r\n");
        assert(beforeLast !== undefined && last !== undefined);
        assert.match(last, /✔.*busybox:latest@sha256:abababababab +.*CACHED/);
        assert.match(last, /✘.*the step .*ERROR/);
        assert(
          shown.indexOf("\x1b[?25l") >= 0 && shown.lastIndexOf("\x1b[?25h") > shown.lastIndexOf("\x1b[?25l"),
        );
      },
    );
  });
});

describe("ociw", () => {
  const workers = [
    {
      ID: "w1",
      Labels: { b: "2", a: "1" },
      platforms: [
        { OS: "linux", Architecture: "amd64" },
        { OS: "linux", Architecture: "386" },
      ],
    },
  ];
  const devices = [
    { Name: "v.com/c=a", Annotations: { b: "2", a: "1" } },
    { Name: "v.com/c=b", AutoAllow: true },
  ];

  test("lists workers for people and for programs", async () => {
    await withDaemon({ workers }, async (place) => {
      const shown = await place.ociw(["workers"]);
      assert.equal(
        shown.stdout.toString(),
        "ID  PLATFORMS    LABELS\nw1  linux/amd64  a=1\n    linux/386    b=2\n",
      );
      const { stdout } = await place.ociw(["workers", "--format", "json"]);
      assert.deepEqual(JSON.parse(stdout.toString()), [
        { id: "w1", platforms: ["linux/amd64", "linux/386"], labels: { a: "1", b: "2" }, devices: [] },
      ]);
    });
  });

  test("lists the devices of workers that have some", async () => {
    await withDaemon(
      { workers: workers.map((each) => ({ ...each, CDIDevices: devices })) },
      async (place) => {
        const shown = (await place.ociw(["workers"])).stdout.toString();
        assert.equal(
          shown,
          "ID  PLATFORMS    LABELS  DEVICES\nw1  linux/amd64  a=1     v.com/c=a\n    linux/386    b=2     v.com/c=b (allowed to all)\n",
        );
        const { stdout } = await place.ociw(["workers", "--format", "json"]);
        assert.deepEqual(JSON.parse(stdout.toString())[0].devices, [
          { name: "v.com/c=a", autoAllowed: false, onDemand: false, annotations: { a: "1", b: "2" } },
          { name: "v.com/c=b", autoAllowed: true, onDemand: false, annotations: {} },
        ]);
      },
    );
  });

  test("tells which program the daemon is, wherever --addr stands", async () => {
    await withDaemon({}, async (place) => {
      const address = `unix://${place.socketPath}`;
      for (const args of [
        ["--addr", address, "info", "--format=json"],
        ["info", "--format", "json", `--addr=${address}`],
      ]) {
        const { stdout } = await place.ociw(args);
        assert.deepEqual(JSON.parse(stdout.toString()), {
          address,
          package: "example.com/fake",
          version: "v1.2.3",
          revision: "f00",
        });
      }
    });
  });

  test("shows help for itself and for each command", async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
    const place = new Place(dir.path);
    const { stdout, exitCode } = await place.ociw(["--help"]);
    assert.equal(exitCode, 0);
    for (const command of ["run", "workers", "info"]) {
      assert.match(stdout.toString(), new RegExp(`^  ${command} `, "m"));
      const one = await place.ociw(["help", command]);
      assert.match(one.stdout.toString(), new RegExp(`^Usage: ociw ${command}`));
      assert.deepEqual((await place.ociw([command, "--help"])).stdout, one.stdout);
    }
  });

  test("shows help for a group of commands and for each of them", async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
    const place = new Place(dir.path);
    const group = await place.ociw(["snapshots", "--help"]);
    assert.equal(group.exitCode, 0);
    assert.match(
      group.stdout.toString(),
      /^Usage: ociw snapshots .*^ {2}tree .*--snapshotter-address SOCKET/ms,
    );
    assert.deepEqual((await place.ociw(["help", "snapshots"])).stdout, group.stdout);
    const one = await place.ociw(["snapshots", "--namespace", "x", "tree", "--help"]);
    assert.match(one.stdout.toString(), /^Usage: ociw snapshots tree .*--no-trunc.*--namespace NAMESPACE/s);
    assert.deepEqual((await place.ociw(["help", "snapshots", "tree"])).stdout, one.stdout);
  });

  const wrong: [args: string[], text: RegExp][] = [
    [["wokers"], /there is no such command, did you mean workers\?/],
    [["help", "rnu"], /did you mean run\?/],
    [["workers", "--fromat", "json"], /unknown flag --fromat, did you mean --format\?/],
    [["--adr", "x", "workers"], /unknown flag --adr, did you mean --addr\?/],
    [["workers", "w1"], /Cannot list workers by name/],
    [["snapshots"], /^Usage: ociw snapshots \[flags\] COMMAND/],
    [["snapshots", "tre"], /there is no such command, did you mean tree\?/],
    [["snapshots", "ls", "key"], /want --filter, or info KEY/],
    [["snapshots", "--namspace", "x", "ls"], /unknown flag --namspace, did you mean --namespace\?/],
    [["snapshots", "info"], /want its key/],
    [["snapshots", "rm", "--recursive"], /want its key/],
    [["snapshots", "usage", "--filter", "kind==view", "key"], /want one of the two/],
    [["snapshots", "ls", "--snapshotter-address", "tcp://x"], /want a path, with or without unix:/],
    [["run", "--progress", "tty", "busybox"], /standard error is no terminal/],
    [[], /^Usage: ociw/],
  ];
  for (const [args, text] of wrong) {
    test(`ends with 2 and says what was meant: ${args.join(" ") || "nothing"}`, async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
      const { exitCode, stdout, stderr } = await new Place(dir.path).ociw(args);
      assert.equal(exitCode, 2);
      assert.equal(stdout.length, 0);
      assert.match(stderr, text);
    });
  }

  for (const [environment, text] of [
    [{ BUILDKIT_PROGRESS: "rawjson" }, /BUILDKIT_PROGRESS: it is "rawjson", want one of auto, plain/],
    [{ BUILDKIT_PROGRESS: "tty" }, /BUILDKIT_PROGRESS=tty: standard error is no terminal/],
    [{ BUILDKIT_NO_CLIENT_TOKEN: "yes" }, /BUILDKIT_NO_CLIENT_TOKEN: it is "yes", want true or false/],
  ] as const) {
    test(`ends with 2 and says what is wrong with the environment: ${JSON.stringify(environment)}`, async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
      const { exitCode, stderr } = await new Place(dir.path).ociw(["run", "busybox"], "", environment);
      assert.equal(exitCode, 2);
      assert.match(stderr, text);
    });
  }

  test("says in one line that the daemon cannot be reached", async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), "ociw-"));
    const place = new Place(dir.path);
    for (const args of [["workers"], ["run", "--progress", "quiet", "busybox"]]) {
      const { exitCode, stderr } = await place.ociw(args);
      assert.equal(exitCode, 1);
      assert.match(stderr, /^ociw: Cannot reach .*d\.sock: connect ENOENT .*\n$/);
    }
  });
});
