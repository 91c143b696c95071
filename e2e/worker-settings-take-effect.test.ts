import assert from "node:assert/strict";
import { access, chmod, mkdtempDisposable, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { BuildKitClient } from "@oci-worker/client";
import { BuildError } from "@oci-worker/client/build-error";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { definitionOf, image, type RunOptions, run } from "@oci-worker/llb/build";
import { cgroupsOfStep, removeCgroups } from "./peers/cgroups.ts";
import { createImage } from "./peers/image.ts";
import { startProcess } from "./peers/process.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { startWorker, type WorkerOptions, type WorkerPeer } from "./peers/worker.ts";

const labelPrefix = "org.mobyproject.buildkit.worker.";

/** A worker whose config file says `toml`. */
async function configured(toml: string, options: WorkerOptions = {}): Promise<WorkerPeer> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "worker-config-")));
  const file = join(directory.path, "buildkitd.toml");
  await writeFile(file, toml);
  const worker = undo.use(
    await startWorker({ ...options, args: ["--config", file, ...(options.args ?? [])] }),
  );
  const owned = undo.move();
  return { ...worker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Runs `script` in a small image, and gives what it prints. */
async function outputOf(
  { client }: Pick<WorkerPeer, "client">,
  script: string,
  options: Partial<RunOptions> & { readonly entitlements?: readonly string[] } = {},
): Promise<string> {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage());
  const { entitlements = [], ...more } = options;
  const { root } = run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"], ...more });
  const build = client.solve(definitionOf(root), { entitlements });
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  return output;
}

async function labelOf({ client }: WorkerPeer, name: string): Promise<string | undefined> {
  const [worker] = await client.workers();
  return worker?.labels[labelPrefix + name];
}

describe("a worker", () => {
  test("logs as much as it is told to", async () => {
    const ended = /"rpc":"moby.buildkit.v1.Control\/ListWorkers"/;
    const calledLog = async (toml: string, args: readonly string[]) => {
      await using worker = await configured(toml, { args });
      await worker.client.workers();
      await worker.process.stop();
      return worker.process.log.filter((line) => ended.test(line)).length;
    };
    // The peer says --debug, over which nothing on the command line is stronger but itself.
    assert.equal(await calledLog("", []), 1);
    assert.equal(await calledLog("debug = true", ["--debug=false"]), 0);
    assert.equal(await calledLog('[log]\nlevel = "debug"', ["--debug=false"]), 1);
    // Of what is logged, trace is the rest.
    assert.equal(await calledLog('[log]\nlevel = "warn"', ["--debug=false", "--trace"]), 1);
    assert.equal(await calledLog("trace = true", ["--debug=false", "--trace=false"]), 0);
  });

  test("says what of its settings it does not heed, and runs all the same", async () => {
    const toml =
      'provenanceEnvDir = "/x"\n[worker.oci]\nsnapshoter = "native"\n[frontend."gateway.v0"]\nenabled = false\n[worker.containerd]\nenabled = false\n[worker.containerd.runtime]\nname = "x"';
    const args = ["--containerd-worker=false", "--containerd-cni-pool-size=3"];
    const environment = { BUILDKIT_DEBUG_PANIC_ON_ERROR: "1" };
    await using worker = await configured(toml, { args, environment });
    const lines = worker.process.log.filter((line) => line.startsWith("{"));
    const warnings = lines.flatMap((line) => {
      const { msg, what } = JSON.parse(line) as { msg: string; what?: string };
      return msg === "setting is not as it should be"
        ? [what?.replaceAll(/ of \S+buildkitd\.toml/g, "")]
        : [];
    });
    assert.equal(warnings.length, 3, warnings.join("\n"));
    assert.equal(
      warnings[0],
      "worker.oci.snapshoter is not used by this worker, want worker.oci.snapshotter?",
    );
    assert.match(warnings[1] ?? "", /^provenanceEnvDir has no effect: this worker states no provenance/);
    assert.match(warnings[2] ?? "", /^BUILDKIT_DEBUG_PANIC_ON_ERROR has no effect: /);
    assert.equal(await labelOf(worker, "snapshotter"), "overlayfs");
  });

  test("logs for people if it is told to, its children too", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "text-"));
    await using running = await startProcess({
      program: join(import.meta.dirname, "../services/worker/bin/oci-worker"),
      args: ["--root", directory.path, "--addr", join(directory.path, "w.sock"), "--log-format", "text"],
      environment: { DOCKER_CONFIG: directory.path },
      ready: /^\d{4}-\S+Z INFO {2}worker serving addresses=\["unix:/,
    });
    for (const child of ["snapshotter", "resolver"]) {
      assert(
        running.log.some((line) => new RegExp(`^\\S+Z INFO  ${child} serving address=/`).test(line)),
        child,
      );
    }
    assert(!running.log.some((line) => line.startsWith("{")), "none is JSON");
  });

  test("listens on every address that it is given, for the group that it is given", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const second = join(directory.path, "new/second.sock");
    await using worker = await startWorker({ args: ["--addr", second, "--group", "daemon"] });
    await using client = new BuildKitClient(`unix://${second}`);
    assert.deepEqual(await client.workers(), await worker.client.workers());
    const { gid, mode } = await stat(second);
    const groups = await readFile("/etc/group", "utf8");
    assert.equal(gid, Number(/^daemon:[^:]*:(\d+):/m.exec(groups)?.[1]));
    assert.equal(mode & 0o777, 0o660);
  });

  test("grants builds what it is told that it may", async () => {
    const options = { network: "host", entitlements: ["network.host"] } as const;
    {
      await using worker = await startWorker();
      await assert.rejects(outputOf(worker, "true", options), (error) => {
        assert(error instanceof BuildError);
        assert.match(error.message, /network\.host is not allowed/);
        return true;
      });
    }
    await using worker = await configured('insecure-entitlements = ["network.host"]');
    assert.equal(await outputOf(worker, "echo granted", options), "granted\n");
  });

  test("says that it builds for the platforms that it is given", async () => {
    await using worker = await configured('[worker.oci]\nplatforms = ["linux/arm64", "linux/arm/v7"]');
    const [record] = await worker.client.workers();
    assert.deepEqual(
      record?.platforms.map(({ architecture, variant }) => [architecture, variant]),
      [
        ["arm64", undefined],
        ["arm", "v7"],
      ],
    );
  });

  test("runs steps with the runtime that it is given", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "runtime-"));
    const [runtime, trace] = [join(directory.path, "traced-runc"), join(directory.path, "trace")];
    await writeFile(runtime, `#!/bin/sh\necho "$@" >>${trace}\nexec runc "$@"\n`);
    await chmod(runtime, 0o755);
    await using worker = await startWorker({ args: ["--oci-worker-binary", runtime] });
    assert.equal(await outputOf(worker, "echo ran"), "ran\n");
    assert.match(await readFile(trace, "utf8"), / run --bundle /);
  });

  test("runs steps beneath the cgroup that it is given", async () => {
    const parent = `worker-e2e-${process.pid}`;
    await using worker = await configured(`[worker.oci]\ndefaultCgroupParent = "${parent}"`);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeCgroups(parent));
    await using registry = await startRegistry();
    const root = image(await pushTo(registry, await createImage()));
    assert.match(await cgroupsOfStep(worker, { root }), new RegExp(`/${parent}/buildkit/[0-9a-z]{25}$`, "m"));
  });

  test("runs no more steps at a time than it is told to", async () => {
    await using worker = await configured("[worker.oci]\nmax-parallelism = 1\n");
    // Fails if another step is there meanwhile.
    const alone = (name: string) =>
      outputOf(worker, `set -C; > /cache/busy || exit 9; sleep 0.3; rm /cache/busy; echo ${name}`, {
        mounts: [{ type: "cache", dest: "/cache", id: "shared" }],
      });
    assert.deepEqual(await Promise.all([alone("a"), alone("b"), alone("c")]), ["a\n", "b\n", "c\n"]);
  });

  test("says which network steps have", async () => {
    await using worker = await configured('[worker.oci]\nnetworkMode = "host"');
    assert.equal(await labelOf(worker, "network"), "host");
  });

  test("keeps snapshots as it is told to", async () => {
    await using worker = await configured('[worker.oci]\nsnapshotter = "native"');
    assert.equal(await labelOf(worker, "snapshotter"), "native");
    assert.equal(await outputOf(worker, "echo kept"), "kept\n");
    await access(join(worker.root, "snapshotter/snapshots"));
  });

  test("has steps look up names as it is told to", async () => {
    const toml =
      '[dns]\nnameservers = ["192.0.2.53"]\nsearchDomains = ["a.example", "b.example"]\noptions = ["ndots:3"]';
    await using worker = await configured(toml);
    const lines = (await outputOf(worker, "cat /etc/resolv.conf")).split("\n");
    assert(lines.includes("nameserver 192.0.2.53"));
    assert(lines.includes("search a.example b.example"));
    assert(lines.includes("options ndots:3"));
  });

  test("uses a resolver that runs already, which asks it for credentials where it is told to", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const sessionAddress = join(directory.path, "credentials.sock");
    await using registry = await startRegistry({ access: { kind: "password", ...user } });
    const reference = await pushTo(registry, await createImage());
    await using resolver = await startResolver({ sessionAddress });
    const args = ["--resolver-address", resolver.address, "--session-address", sessionAddress];
    await using worker = await startWorker({ args });
    assert(!worker.process.log.some((line) => line.includes('"name":"resolver"')), "it has one of its own");
    const { root } = run({ root: image(reference), args: ["true"], env: ["PATH=/bin"] });
    const credentials = credentialsFor(registry.host, {
      kind: "password",
      username: user.username,
      password: new Secret(user.password),
    });
    await worker.client.solve(definitionOf(root), { credentials }).result;
  });
});
