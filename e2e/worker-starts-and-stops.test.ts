import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  access,
  mkdir,
  mkdtempDisposable,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { BuildError } from "@oci-worker/client/build-error";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { makeGate } from "./peers/gate.ts";
import { createImage } from "./peers/image.ts";
import { childrenOf, startProcess, untilGone } from "./peers/process.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

const services = join(import.meta.dirname, "../services");
const workerProgram = join(services, "worker/bin/oci-worker");
const snapshotterProgram = join(services, "snapshotter/bin/oci-snapshotter");

/** What a program says that ends at once with an error, and that it did end so. */
async function failure(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<string> {
  const running = promisify(execFile)(workerProgram, args, { env: { ...process.env, ...environment } });
  const error = await running.then(
    () => assert.fail("the worker has started and ended well"),
    (thrown: { readonly code: number; readonly stderr: string }) => thrown,
  );
  assert.equal(error.code, 1);
  assert.doesNotMatch(error.stderr, /\n\s+at /, "a stack trace is no message for an operator");
  return error.stderr;
}

describe("a worker that cannot start", () => {
  test("says that its root is in use, and by whom", async () => {
    await using worker = await startWorker();
    const message = await failure(["--root", worker.root, "--addr", "unix:///nowhere/x.sock"]);
    assert.match(message, /could not lock buildkitd\.lock, another instance running\?/);
    assert.match(message, new RegExp(`Its pid is ${worker.process.pid}`));
  });

  test("says that its socket is in use", async () => {
    await using worker = await startWorker();
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const message = await failure(["--root", join(directory.path, "root"), "--addr", worker.address]);
    assert.match(message, /another process serves this socket/);
    assert.equal((await worker.client.workers()).length, 1);
  });

  test("says that there is no runtime", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    await symlink(process.execPath, join(directory.path, "node"));
    for (const tool of ["dirname", "readlink", "sh"]) {
      await symlink(join("/bin", tool), join(directory.path, tool));
    }
    const args = ["--root", join(directory.path, "root"), "--addr", `unix://${directory.path}/x.sock`];
    assert.match(
      await failure(args, { PATH: directory.path }),
      /no worker found: skipping oci worker, as runc does not exist: .*no buildkit-runc or runc on PATH, want runc installed/,
    );
    assert.match(
      await failure([...args, "--oci-worker=true"], { PATH: directory.path }),
      /oci-worker: Cannot find a container runtime: no buildkit-runc or runc on PATH/,
    );
    assert.match(await failure([...args, "--oci-worker-binary", "crunch"]), /no crunch on PATH/);
    assert.match(await failure([...args, "--oci-worker=false"]), /no worker found/);
    assert(!(await readdir(directory.path)).includes("root"), "it has left a root behind");
  });

  test("says in one line what its runtime cannot do", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const runtime = join(directory.path, "runtime");
    await writeFile(runtime, "#!/bin/sh\necho 'no state directory' >&2\nexit 4\n", { mode: 0o755 });
    const place = ["--root", join(directory.path, "root"), "--addr", `unix://${directory.path}/x.sock`];
    const message = await failure([...place, "--oci-worker-binary", runtime]);
    assert.match(
      message,
      /^oci-worker: Cannot list the containers of an earlier run: .*\/runtime has failed: no state directory\n$/m,
    );
  });

  test("says what is wrong with its command line and its config", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    assert.match(
      await failure(["--oci-worker-snapshoter=x"]),
      /--oci-worker-snapshoter: there is none of that name/,
    );
    assert.match(
      await failure(["--config", join(directory.path, "absent.toml")]),
      /absent\.toml: there is no such file/,
    );
    const proxy = ["--oci-worker-proxy-snapshotter-path", join(directory.path, "absent.sock")];
    assert.match(
      await failure([
        "--root",
        join(directory.path, "root"),
        "--addr",
        `unix://${directory.path}/x.sock`,
        ...proxy,
      ]),
      /snapshotter doesn't exist on ".*absent\.sock" \(Do not include 'unix:\/\/' prefix\)/,
    );
  });

  test("says that its snapshotter cannot run, and stops what it has started", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const args = ["--root", join(directory.path, "root"), "--addr", `unix://${directory.path}/x.sock`];
    await mkdir(join(directory.path, "root"));
    await writeFile(join(directory.path, "root/snapshotter"), "no directory");
    const message = await failure(args);
    assert.match(message, /Cannot start snapshotter: it ended with code 1 before it served/);
    await assert.rejects(access(join(directory.path, "root/resolver.sock")), { code: "ENOENT" });
  });
});

describe("a worker that has started", () => {
  test("says who it is, the same after a restart, and that it is well", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const ids: string[] = [];
    for (const round of [1, 2]) {
      await using worker = await startWorker({
        directory: directory.path,
        args: ["--oci-worker-labels=round=yes"],
      });
      const [only, ...others] = await worker.client.workers();
      assert(only !== undefined && others.length === 0, `round ${round}`);
      ids.push(only.id);
      assert.equal(only.labels["org.mobyproject.buildkit.worker.executor"], "oci");
      assert.equal(only.labels["round"], "yes");
      assert.equal((await worker.client.info()).package, "oci-worker");
      using channel = unixChannel(worker.address);
      const control = createClient(Control, channel);
      const idsOf = async (...filter: readonly string[]) =>
        (await control.listWorkers({ filter: [...filter] })).record.map(({ ID }) => ID);
      assert.deepEqual(await idsOf("labels.round==yes", "id==none"), [only.id]);
      assert.deepEqual(await idsOf('labels."org.mobyproject.buildkit.worker.executor"!=oci'), []);
      await assert.rejects(
        idsOf("labels.=="),
        /Cannot read filter at character 8: .*want the name of a field/,
      );
      const { status } = await createClient(Health, channel).check({ service: "moby.buildkit.v1.Control" });
      assert.equal(status, ServingStatus.SERVING);
    }
    assert.equal(ids[0], ids[1]);
  });

  test("ends with code 0 when it is asked to, and its children with it", async () => {
    await using worker = await startWorker();
    const children = await childrenOf(worker.process.pid);
    assert.equal(children.length, 2);
    assert.equal(await worker.process.stop(), 0);
    for (const pid of children) {
      await assert.rejects(access(`/proc/${pid}`), { code: "ENOENT" });
    }
    const left = await readdir(worker.root);
    assert.deepEqual(
      left.filter((name) => name.endsWith(".sock")),
      [],
    );
  });

  test("has a snapshotter of its own wait for the disk when it commits", async () => {
    await using worker = await startWorker();
    const commandLines = await Promise.all(
      (await childrenOf(worker.process.pid)).map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8")),
    );
    assert.equal(commandLines.filter((line) => line.includes("\0--sync-on-commit\0")).length, 1);
  });

  test("is followed by its children also when it is killed, and the next one cleans up after it", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    const tree = (script: string) =>
      run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"] }).root;
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    {
      const worker = await startWorker({ directory: directory.path });
      const children = await childrenOf(worker.process.pid);
      const build = worker.client.solve(definitionOf(tree("echo started; sleep 3000")));
      build.result.catch(() => undefined);
      await assert.rejects(async () => {
        for await (const { logs } of build.status) {
          if (logs.length > 0) {
            await worker.process.kill();
          }
        }
        await build.result;
      });
      await Promise.all(children.map(untilGone));
    }
    await using worker = await startWorker({ directory: directory.path });
    await worker.assertClean();
    await worker.client.solve(definitionOf(tree("echo again"))).result;
  });

  test("starts a child again that has died, and builds on", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    await using worker = await startWorker();
    const build = (text: string) => {
      const { root } = run({ root: image(reference), args: ["echo", text], env: ["PATH=/bin"] });
      return worker.client.solve(definitionOf(root)).result;
    };
    await build("before");
    for (const [index, pid] of (await childrenOf(worker.process.pid)).entries()) {
      process.kill(pid, "SIGKILL");
      await untilGone(pid);
      await build(`after ${index}`);
    }
    // A build may do without one of them, and be over before that is there again.
    while ((await childrenOf(worker.process.pid)).length < 2) {
      await setImmediate();
    }
  });

  test("uses a snapshotter that runs already, and leaves it running", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    await using directory = await mkdtempDisposable(join(tmpdir(), "snapshotter-"));
    const address = join(directory.path, "s.sock");
    await using snapshotter = await startProcess({
      program: snapshotterProgram,
      args: ["--root", join(directory.path, "root"), "--address", address, "--snapshotter", "native"],
      ready: /"msg":"serving"/,
    });
    {
      const args = ["--oci-worker-proxy-snapshotter-path", address];
      await using worker = await startWorker({ args, snapshotterAddress: address });
      assert.equal((await childrenOf(worker.process.pid)).length, 1);
      // Nobody has told the worker: it has asked the snapshotter.
      const [record] = await worker.client.workers();
      assert.equal(record?.labels["org.mobyproject.buildkit.worker.snapshotter"], "native");
      const { root } = run({ root: image(reference), args: ["touch", "/x"], env: ["PATH=/bin"] });
      await worker.client.solve(definitionOf(root)).result;
    }
    await access(`/proc/${snapshotter.pid}`);
  });

  test("says that a registry is down", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    await registry.stop();
    await using worker = await startWorker();
    await assert.rejects(worker.client.solve(definitionOf(image(reference))).result, (error) => {
      assert(error instanceof BuildError);
      assert.equal(error.reason, "UNAVAILABLE");
      assert.match(error.message, new RegExp(`${registry.host.replaceAll(".", "\\.")}.*ECONNREFUSED`));
      return true;
    });
  });

  test("lets builds end when it is asked to end, for as long as it is told to", async () => {
    await using registry = await startRegistry();
    const base = image(await pushTo(registry, await createImage()));
    const stopDuring = async (
      script: string,
      args: readonly string[],
      onRefused: () => void = () => undefined,
    ) => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
      await using worker = await startWorker({ directory: directory.path, args });
      const { root } = run({ root: base, args: ["sh", "-c", script], env: ["PATH=/bin"] });
      const build = worker.client.solve(definitionOf(root));
      const ended = build.result.then(
        () => "well",
        (error) => String(error),
      );
      let stopped: Promise<number | null> | undefined;
      let output = "";
      for await (const { logs } of build.status) {
        output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
        if (logs.length > 0 && stopped === undefined) {
          stopped = worker.process.stop();
          await worker.process.said(/"msg":"stopping"/);
          const other = worker.client.solve(definitionOf(root)).result;
          await assert.rejects(other, /the worker is stopping/);
          onRefused();
        }
      }
      assert.equal(await stopped, 0);
      return { output, ended: await ended };
    };
    await using gate = await makeGate();
    const patient = await stopDuring(`echo started; ${gate.command}; echo done`, [], () => gate.open());
    assert.deepEqual(patient, { output: "started\ndone\n", ended: "well" });
    const impatient = await stopDuring("echo started; sleep 3000", ["--stop-timeout=0"]);
    assert.equal(impatient.output, "started\n");
    assert.match(impatient.ended, /CanceledError|canceled|stopping/);
  });

  test("waits for the steps of its builds to be killed when it is asked to end", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    const worker = await startWorker();
    const { root } = run({
      root: image(reference),
      args: ["sh", "-c", "echo started; sleep 3000"],
      env: ["PATH=/bin"],
    });
    const build = worker.client.solve(definitionOf(root));
    build.result.catch(() => undefined);
    let stopped: Promise<number | null> | undefined;
    await assert.rejects(async () => {
      for await (const { logs } of build.status) {
        if (logs.length > 0) {
          stopped ??= worker.process.stop();
        }
      }
      await build.result;
    });
    assert.equal(await stopped, 0);
    const { stdout } = await promisify(execFile)("runc", [
      "--root",
      join(worker.root, "runc"),
      "list",
      "--quiet",
    ]);
    assert.equal(stdout, "");
    await rm(worker.directory, { recursive: true });
  });
});
