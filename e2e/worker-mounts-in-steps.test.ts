import assert from "node:assert/strict";
import { execFile as execFileWithCallback } from "node:child_process";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { Build, BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import { CanceledError } from "@oci-worker/errdefs";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import { assembleImage, createImage, layerOf, programs } from "./peers/image.ts";
import { linkedProgram } from "./peers/linked-program.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startAgent } from "./peers/ssh-agent.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const crun = join(import.meta.dirname, "../services/worker/src/executor/sample-crun.sh");

const execFile = promisify(execFileWithCallback);

/** A worker, and a registry with a small image in it. */
async function fixture(args: readonly string[] = []) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const worker = undo.use(await startWorker({ args }));
  const owned = undo.move();
  return { registry, reference, worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function step(reference: Reference, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root;
}

/** What a build has written, when it has ended. */
async function outputOf(build: Build) {
  const output = { stdout: "", stderr: "" };
  for await (const { logs } of build.status) {
    for (const { data, stream } of logs) {
      output[stream] += Buffer.from(data).toString();
    }
  }
  return output;
}

/** Builds `tree` to its end. */
async function solve({ client }: WorkerPeer, tree: Tree, options: BuildOptions = {}) {
  const build = client.solve(definitionOf(tree), options);
  const [output] = await Promise.all([outputOf(build), build.result]);
  return output;
}

const secrets = (values: Readonly<Record<string, string>>): BuildOptions => ({
  secrets: (id) => Promise.resolve(values[id] === undefined ? undefined : Buffer.from(values[id])),
});

describe("a cache mount", () => {
  const cache = (sharing: "shared" | "private" | "locked", more: object = {}) =>
    ({ type: "cache", dest: "/cache", id: "deps", sharing, ...more }) as const;

  test("keeps what steps put there, also over a restart, and is no part of their result", async () => {
    await using on = await fixture();
    await using state = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const mounts = [cache("shared")];
    {
      await using worker = await startWorker({ directory: state.path });
      await solve(worker, step(on.reference, "echo kept > /cache/file", { mounts }));
    }
    await using worker = await startWorker({ directory: state.path });
    await using output = await mkdtempDisposable(join(tmpdir(), "output-"));
    const { stdout } = await solve(worker, step(on.reference, "cat /cache/file", { mounts }), {
      output: { type: "local", directory: output.path },
    });
    assert.equal(stdout, "kept\n");
    assert(!(await readdir(output.path)).includes("cache"), "the mount point is part of the result");
  });

  test("begins with what it is told to, and is another one for another beginning", async () => {
    await using on = await fixture();
    const from = step(on.reference, "echo base > /start");
    const mounts = [cache("locked", { from })];
    const { stdout } = await solve(
      on.worker,
      step(on.reference, "cat /cache/start; echo x > /cache/added", { mounts }),
    );
    assert.equal(stdout, "base\n");
    assert.equal(
      (await solve(on.worker, step(on.reference, "ls /cache/added", { mounts }))).stdout,
      "/cache/added\n",
    );
    assert.equal(
      (await solve(on.worker, step(on.reference, "ls /cache", { mounts: [cache("locked")] }))).stdout,
      "",
    );
  });

  test("is shared by steps that run at once, unless it is private; who locks it waits", async () => {
    await using on = await fixture();
    // Each of the two ends only when it sees the other in the cache.
    const meet = (mine: string, other: string) =>
      step(on.reference, `touch /cache/${mine}; until test -e /cache/${other}; do sleep 0.02; done`, {
        mounts: [cache("shared")],
      });
    await Promise.all([solve(on.worker, meet("a", "b")), solve(on.worker, meet("b", "a"))]);

    // Fails if another step is in the same cache meanwhile.
    const alone = (sharing: "private" | "locked", name: string) =>
      step(
        on.reference,
        `set -C; > /cache/busy || exit 9; sleep 0.3; rm /cache/busy; echo ${name} >> /cache/names`,
        { mounts: [cache(sharing, { id: sharing })] },
      );
    for (const sharing of ["private", "locked"] as const) {
      const names = ["1", "2", "3"].map((number) => `${sharing}-${number}`);
      await Promise.all(names.map((name) => solve(on.worker, alone(sharing, name))));
    }
    const seen = step(on.reference, "cat /cache/names", { mounts: [cache("locked", { id: "locked" })] });
    const { stdout } = await solve(on.worker, seen);
    assert.deepEqual(stdout.trim().split("\n").sort(), ["locked-1", "locked-2", "locked-3"]);
  });

  test("that is locked goes on to the next step when the one before is canceled, and to none that has gone", async () => {
    await using on = await fixture();
    const mounts = [cache("locked")];
    const start = (script: string) => {
      const ending = new AbortController();
      const build = on.worker.client.solve(definitionOf(step(on.reference, script, { mounts })), {
        signal: ending.signal,
      });
      build.result.catch(() => undefined);
      return { ending, build };
    };
    const holder = start("touch /cache/held; echo held; sleep 3000");
    let waiter: ReturnType<typeof start> | undefined;
    let last: Promise<string> | undefined;
    for await (const { logs } of holder.build.status) {
      if (logs.length > 0 && waiter === undefined) {
        waiter = start("touch /cache/waiter");
        for await (const { vertices } of waiter.build.status) {
          if (
            vertices.some(({ name, startedAtMs }) => name.includes("waiter") && startedAtMs !== undefined)
          ) {
            waiter.ending.abort();
          }
        }
        await assert.rejects(waiter.build.result, CanceledError);
        last = solve(on.worker, step(on.reference, "ls /cache", { mounts })).then(({ stdout }) => stdout);
        holder.ending.abort();
      }
    }
    await assert.rejects(holder.build.result, CanceledError);
    assert.equal(await last, "held\n");
    assert.deepEqual(await on.worker.client.diskUsage({ filters: ["inuse"] }), []);
  });

  test("does not lock two steps against each other that want two of them", async () => {
    await using on = await fixture();
    const both = (name: string, first: string, second: string) =>
      step(on.reference, `echo ${name}`, {
        mounts: [cache("locked", { dest: "/1", id: first }), cache("locked", { dest: "/2", id: second })],
      });
    const steps = ["1", "2", "3"].flatMap((name) => [both(name, "a", "b"), both(name, "b", "a")]);
    const outputs = await Promise.all(steps.map((each) => solve(on.worker, each)));
    assert.deepEqual(
      outputs.map(({ stdout }) => stdout.trim()),
      ["1", "1", "2", "2", "3", "3"],
    );
  });

  test("is the same at two places of one step", async () => {
    await using on = await fixture();
    const twice = step(on.reference, "mkdir /one/sub; echo both > /one/sub/file; cat /two/sub/file", {
      mounts: [cache("locked", { dest: "/one" }), cache("locked", { dest: "/two" })],
    });
    assert.equal((await solve(on.worker, twice)).stdout, "both\n");
  });

  test("shows a part of itself, and is only read, if the step says so", async () => {
    await using on = await fixture();
    const from = step(on.reference, "mkdir -p /part/deep; echo base > /part/deep/file");
    const part = (more: object = {}) => [cache("locked", { from, selector: "/part/deep", ...more })];
    const write = step(on.reference, "cat /cache/file; echo added > /cache/added", { mounts: part() });
    assert.equal((await solve(on.worker, write)).stdout, "base\n");
    const read = step(on.reference, "ls /cache; touch /cache/more || true", {
      mounts: part({ readonly: true }),
    });
    const { stdout, stderr } = await solve(on.worker, read);
    assert.equal(stdout, "added\nfile\n");
    assert.match(stderr, /\/cache\/more: Read-only file system/);
    const whole = step(on.reference, "ls /cache/part/deep", { mounts: [cache("locked", { from })] });
    assert.equal((await solve(on.worker, whole)).stdout, "added\nfile\n");
  });

  test("that is private makes nobody wait: a step that finds it in use has another one", async () => {
    await using on = await fixture();
    // Each of the two ends only when the other has begun, too.
    const meet = (mine: string, other: string) =>
      step(
        on.reference,
        `ls /private; touch /private/${mine} /cache/${mine}; until test -e /cache/${other}; do sleep 0.02; done`,
        { mounts: [cache("shared"), cache("private", { dest: "/private", id: "own" })] },
      );
    const outputs = await Promise.all([solve(on.worker, meet("a", "b")), solve(on.worker, meet("b", "a"))]);
    assert.deepEqual(
      outputs.map(({ stdout }) => stdout),
      ["", ""],
    );
    // Both are kept, and given out again.
    const mounts = [cache("private", { dest: "/private", id: "own" })];
    const { stdout } = await solve(on.worker, step(on.reference, "ls /private", { mounts }));
    assert.match(stdout, /^[ab]\n$/);
    const kept = await on.worker.client.diskUsage({ filters: ["type==exec.cachemount"] });
    assert.equal(
      kept.filter(({ description }) => description.startsWith("cached mount /private ")).length,
      2,
    );
  });

  test("is empty again for who wants nothing from the cache", async () => {
    await using on = await fixture();
    const mounts = [cache("shared")];
    await solve(on.worker, step(on.reference, "echo old > /cache/file", { mounts }));
    const { stdout } = await solve(on.worker, step(on.reference, "ls /cache", { mounts, ignoreCache: true }));
    assert.equal(stdout, "");
  });
});

describe("a tree that is mounted", () => {
  test("can be written to by a step without being a result, or a change of what it is", async () => {
    await using on = await fixture();
    const tree = step(on.reference, "mkdir /data; echo kept > /data/file");
    const at = { type: "bind", dest: "/tree", from: tree, selector: "/data" } as const;
    const writing = run({
      root: image(on.reference),
      args: ["sh", "-c", "echo lost > /tree/file; cat /tree/file"],
      env: ["PATH=/bin"],
      mounts: [{ ...at, discarded: true }],
    });
    assert.deepEqual([...writing.mounts.keys()], ["/"]);
    assert.equal((await solve(on.worker, writing.root)).stdout, "lost\n");
    const reading = step(on.reference, "cat /tree/file", { mounts: [{ ...at, readonly: true }] });
    assert.equal((await solve(on.worker, reading)).stdout, "kept\n");
  });
});

describe("a secret", () => {
  const secret = (more: object = {}) =>
    ({ type: "secret", id: "token", dest: "/run/secrets/token", ...more }) as const;

  test("is a file in memory, of the owner and mode that the step wants, and no part of anything", async () => {
    await using on = await fixture();
    const script =
      "cat /run/secrets/token; stat -c '%u:%g %a' /run/secrets/token; stat -fc %T /run/secrets/token; echo x > /run/secrets/token";
    const mounts = [secret({ uid: 7, gid: 8, mode: 0o440 })];
    await using output = await mkdtempDisposable(join(tmpdir(), "output-"));
    const { stdout, stderr } = await solve(on.worker, step(on.reference, `${script}; true`, { mounts }), {
      ...secrets({ token: "c4n4ry\n" }),
      output: { type: "local", directory: output.path },
    });
    assert.equal(stdout, "c4n4ry\n7:8 440\ntmpfs\n");
    assert.match(stderr, /Read-only file system/);
    assert(!(await readdir(output.path)).includes("run"), "the mount point is part of the result");
    assert.doesNotMatch(on.worker.process.log.join("\n"), /c4n4ry/);
  });

  for (const runtime of ["runc", crun]) {
    test(`is a variable of the environment, and on no disk meanwhile, under ${basename(runtime)}`, async () => {
      await using on = await fixture(["--oci-worker-binary", runtime]);
      const secretEnv = [{ name: "TOKEN", id: "token" }];
      const tree = step(on.reference, 'echo "got $TOKEN"; sleep 3000', { secretEnv });
      const controller = new AbortController();
      const build = on.worker.client.solve(definitionOf(tree), {
        ...secrets({ token: "c4n4ry" }),
        signal: controller.signal,
      });
      const canceled = assert.rejects(build.result);
      let stdout = "";
      for await (const { logs } of build.status) {
        stdout += logs.map(({ data }) => Buffer.from(data).toString()).join("");
        if (stdout.endsWith("\n") && !controller.signal.aborted) {
          const files = `${on.worker.root}/runc ${on.worker.root}/*.db*`;
          const { stdout: found } = await execFile("sh", ["-c", `grep -rls c4n4ry ${files} || true`]);
          assert.equal(found, "");
          const bundles = await readdir(join(on.worker.root, "executor"));
          const config = join(on.worker.root, "executor", bundles[0] ?? "", "config.json");
          const { stdout: type } = await execFile("stat", ["-Lfc", "%T", config]);
          assert.equal(type, "tmpfs\n");
          controller.abort();
        }
      }
      await canceled;
      assert.equal(stdout, "got c4n4ry\n");
    });
  }

  test("that the client has not is told by name, or left out if the step can do without", async () => {
    await using on = await fixture();
    for (const [index, options] of [secrets({}), {}].entries()) {
      await assert.rejects(
        solve(on.worker, step(on.reference, "true", { mounts: [secret()] }), options),
        (error) => {
          assert(error instanceof BuildError, String(error));
          assert.match(error.message, /secret token: not found/);
          return true;
        },
      );
      const script = `ls /run/secrets/token || echo absent ${index}`;
      const { stdout } = await solve(
        on.worker,
        step(on.reference, script, { mounts: [secret({ optional: true })] }),
        options,
      );
      assert.equal(stdout, `absent ${index}\n`);
    }
    for (const name of ["", "A=B", "A\0"]) {
      // What a runtime says of such a variable has all of it.
      await assert.rejects(
        solve(
          on.worker,
          step(on.reference, "env", { secretEnv: [{ name, id: "token" }] }),
          secrets({ token: "c4n4ry" }),
        ),
        /Cannot put secret "token" into variable ".*": want a name without "="/,
      );
    }
    const required = step(on.reference, "env", { secretEnv: [{ name: "TOKEN", id: "token" }] });
    await assert.rejects(solve(on.worker, required), /secret token: not found/);
    await assert.rejects(solve(on.worker, required, secrets({ token: "c4n4ry\0" })), (error) => {
      assert(error instanceof BuildError);
      assert.match(
        error.message,
        /Cannot put secret "token" into the environment: it has a zero byte, want text/,
      );
      assert.doesNotMatch(error.message, /c4n4ry/);
      return true;
    });
    const secretEnv = [{ name: "TOKEN", id: "token", optional: true }];
    const { stdout } = await solve(on.worker, step(on.reference, "env", { secretEnv }));
    assert.doesNotMatch(stdout, /TOKEN/);
  });
});

describe("an ssh agent", () => {
  test("of the client signs for a step that has no key, over a socket of the owner and mode that it wants", async () => {
    await using on = await fixture();
    await using agent = await startAgent();
    const mounts = [{ type: "ssh", id: "default", dest: "/run/agent.sock", uid: 5 }] as const;
    const script =
      "stat -c '%F %u %a' /run/agent.sock; for i in 1 2; do ssh-add -l; done; ssh-add -T /key.pub";
    const env = ["PATH=/bin:/usr/bin", "SSH_AUTH_SOCK=/run/agent.sock"];
    const program = assembleImage([
      await layerOf(await programs()),
      await layerOf([
        ...(await linkedProgram("/usr/bin/ssh-add", "openssh-client")),
        { type: "file", name: "key.pub", content: agent.publicKey },
        { type: "file", name: "etc/passwd", content: Buffer.from("root:x:0:0::/:/bin/sh\n") },
      ]),
    ]);
    const reference = await pushTo(on.registry, program, "test/ssh");
    const { stdout, stderr } = await solve(on.worker, step(reference, script, { env, mounts }), {
      sshAgents: { default: agent.path },
    });
    assert.equal(stderr, "");
    assert.equal(stdout, `socket 5 600\n${agent.listing}${agent.listing}`);
  });

  test("that the client has not is told, or left out if the step can do without", async () => {
    await using on = await fixture();
    const mount = { type: "ssh", id: "deploy", dest: "/agent.sock" } as const;
    const failing = (options: BuildOptions, message: RegExp) =>
      assert.rejects(solve(on.worker, step(on.reference, "true", { mounts: [mount] }), options), (error) => {
        assert(error instanceof BuildError, String(error));
        assert.match(error.message, message);
        return true;
      });
    await failing({}, /no SSH key "deploy" forwarded from the client/);
    await failing({ sshAgents: { default: "/nowhere" } }, /unset ssh forward key deploy/);
    const mounts = [{ ...mount, optional: true }];
    const { stdout } = await solve(
      on.worker,
      step(on.reference, "ls /agent.sock || echo absent", { mounts }),
    );
    assert.equal(stdout, "absent\n");
  });
});

test("ociw run lends a command secrets and the user's ssh agent", async () => {
  await using on = await fixture();
  await using agent = await startAgent();
  const image = assembleImage([
    await layerOf(await programs()),
    await layerOf([
      ...(await linkedProgram("/usr/bin/ssh-add", "openssh-client")),
      { type: "file", name: "etc/passwd", content: Buffer.from("user:x:7:7::/:/bin/sh\n") },
    ]),
  ]);
  const reference = formatReference(await pushTo(on.registry, image, "test/ociw"));
  const script = "cat /run/secrets/token; ssh-add -l";
  const flags = ["--secret", "id=token,env=TOKEN", "--ssh", "default", "--user", "user"];
  const path = ["--env", "PATH=/bin:/usr/bin", "--progress", "quiet"];
  const { stdout } = await execFile(
    join(import.meta.dirname, "../services/ociw/bin/ociw"),
    ["--addr", on.worker.address, "run", ...flags, ...path, reference, "--", "sh", "-c", script],
    {
      env: {
        ...process.env,
        TOKEN: "c4n4ry\n",
        SSH_AUTH_SOCK: agent.path,
        DOCKER_CONFIG: on.worker.directory,
      },
    },
  );
  assert.equal(stdout, `c4n4ry\n${agent.listing}`);
});
