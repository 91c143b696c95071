import assert from "node:assert/strict";
import { lstat, mkdtempDisposable, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import type { DefinitionSchema } from "@oci-worker/api/buildkit/llb";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import type { Build } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { CanceledError } from "@oci-worker/errdefs";
import { unixChannel } from "@oci-worker/grpc/channel";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { makeGate } from "./peers/gate.ts";
import { createImage } from "./peers/image.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const password = { kind: "password", ...user } as const;

/** A registry with a password, a small image in it, and a worker. */
async function fixture(files: Readonly<Record<string, string>> = {}) {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry({ access: password }));
  const reference = await pushTo(registry, await createImage({ files }));
  const worker = undo.use(await startWorker());
  const credentials = credentialsFor(registry.host, {
    kind: "password",
    username: user.username,
    password: new Secret(user.password),
  });
  const owned = undo.move();
  return { registry, reference, worker, credentials, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function step(reference: Reference, script: string, more: Partial<RunOptions> = {}): Tree {
  return run({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"], ...more }).root;
}

/** What a build has written and which of its steps came from the cache, when it has ended. @param onLog told of each piece. */
async function watch(build: Build, onLog: () => void = () => undefined) {
  const output = { stdout: "", stderr: "" };
  const cached = new Map<string, boolean>();
  for await (const { logs, vertices } of build.status) {
    for (const { data, stream } of logs) {
      output[stream] += Buffer.from(data).toString();
      onLog();
    }
    for (const vertex of vertices) {
      cached.set(vertex.name, vertex.cached);
    }
  }
  return { ...output, cached };
}

/** Builds `tree` to its end. */
async function solve({ client }: WorkerPeer, tree: Tree, options: Parameters<typeof client.solve>[1] = {}) {
  const build = client.solve(definitionOf(tree), options);
  const seen = await watch(build);
  return { ...seen, ...(await build.result) };
}

function fails(promise: Promise<unknown>, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /c4n4ry/);
    return true;
  });
}

describe("a worker", () => {
  test("pulls an image with the client's password, runs a command in it and streams what it prints", async () => {
    await using on = await fixture({ "/hello": "hello from the image\n" });
    const tree = step(on.reference, "cat /hello; echo err >&2");
    const { stdout, stderr } = await solve(on.worker, tree, on);
    assert.equal(stdout, "hello from the image\n");
    assert.equal(stderr, "err\n");
    assert.doesNotMatch(on.worker.process.log.join("\n"), /c4n4ry/);
  });

  test("says that a password is wrong, and builds with the right one after it", async () => {
    await using on = await fixture();
    const tree = step(on.reference, "true");
    const wrong = {
      kind: "password",
      username: user.username,
      password: new Secret("wrong-c4n4ry"),
    } as const;
    const credentials = credentialsFor(on.registry.host, wrong);
    await fails(solve(on.worker, tree, { credentials }), /the registry refused these credentials/);
    await fails(solve(on.worker, tree), /no basic auth credentials/);
    await solve(on.worker, tree, on);
  });

  test("takes what it has built from its cache, also after a restart", async () => {
    await using on = await fixture();
    const tree = step(on.reference, "echo built");
    assert.equal((await solve(on.worker, tree, on)).stdout, "built\n");
    const again = await solve(on.worker, tree, on);
    assert.equal(again.stdout, "");
    assert.deepEqual([...again.cached.values()], [true, true]);
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    for (const round of ["first", "second"]) {
      await using worker = await startWorker({ directory: directory.path });
      const { cached } = await solve(worker, tree, on);
      assert.deepEqual([...cached.values()], [round === "second", round === "second"], round);
    }
  });

  test("runs a command again that must not come from the cache, in an image that does", async () => {
    await using on = await fixture();
    const tree = step(on.reference, "echo again", { ignoreCache: true });
    await solve(on.worker, tree, on);
    const { stdout, cached } = await solve(on.worker, tree, on);
    assert.equal(stdout, "again\n");
    assert.deepEqual([...cached.values()], [true, false]);
  });

  test("gives a step what the steps before it have made, and its files to the client", async () => {
    await using on = await fixture();
    const first = step(on.reference, "mkdir /made; echo one > /made/one; rm /etc/image");
    const { root } = run({ root: first, args: ["sh", "-c", "cat /made/one > /two"], env: ["PATH=/bin"] });
    await using directory = await mkdtempDisposable(join(tmpdir(), "output-"));
    await solve(on.worker, root, { ...on, output: { type: "local", directory: directory.path } });
    assert.equal(await readFile(join(directory.path, "two"), "utf8"), "one\n");
    assert.deepEqual(await readdir(join(directory.path, "made")), ["one"]);
    assert((await lstat(join(directory.path, "bin/sh"))).isSymbolicLink());
    assert(!(await readdir(join(directory.path, "etc"))).includes("image"));
  });

  test("shows a step the results of others where it mounts them", async () => {
    await using on = await fixture();
    const other = step(on.reference, "echo other > /file");
    const { root } = run({
      root: image(on.reference),
      args: ["sh", "-c", "cat /in/file; touch /in/x"],
      env: ["PATH=/bin"],
      mounts: [{ type: "bind", dest: "/in", from: other, readonly: true }],
    });
    const build = on.worker.client.solve(definitionOf(root), on);
    const [seen] = await Promise.all([watch(build), fails(build.result, /exit code: 1/)]);
    assert.equal(seen.stdout, "other\n");
    assert.match(seen.stderr, /Read-only file system/);
  });

  test("tells the exit code and the step of a command that fails", async () => {
    await using on = await fixture();
    const failing = on.worker.client.solve(definitionOf(step(on.reference, "exit 3")), on);
    await Promise.all([
      watch(failing),
      assert.rejects(failing.result, (error) => {
        assert(error instanceof BuildError);
        assert.equal(error.exitCode, 3);
        assert.match(error.vertex ?? "", /^sha256:/);
        assert.equal(error.message, 'process "sh -c exit 3" did not complete successfully: exit code: 3');
        return true;
      }),
    ]);
    const absent = run({ root: image(on.reference), args: ["no-such-command"], env: ["PATH=/bin"] }).root;
    await assert.rejects(solve(on.worker, absent, on), (error) => {
      assert(error instanceof BuildError);
      assert.equal(error.exitCode, 127);
      assert.match(error.message, /"no-such-command": executable file not found in \$PATH/);
      return true;
    });
  });

  test("takes a command for done that ends with a code which its build expects, and for failed with 0 then", async () => {
    await using on = await fixture();
    const ending = (code: number) =>
      step(on.reference, `echo done >/result; exit ${code}`, { validExitCodes: [3, 4] });
    const after = run({ root: ending(4), args: ["cat", "/result"], env: ["PATH=/bin"] }).root;
    assert.equal((await solve(on.worker, after, on)).stdout, "done\n");
    await assert.rejects(solve(on.worker, ending(0), on), (error) => {
      assert(error instanceof BuildError);
      assert.equal(error.exitCode, 0);
      assert.match(error.message, /did not complete successfully: exit code: 0$/);
      return true;
    });
  });

  test("kills the container of a build that is canceled, and leaves nothing", async () => {
    await using on = await fixture();
    const controller = new AbortController();
    const tree = step(on.reference, "echo started; sleep 3000");
    const build = on.worker.client.solve(definitionOf(tree), { ...on, signal: controller.signal });
    const canceled = assert.rejects(build.result, CanceledError);
    for await (const { logs } of build.status) {
      if (logs.length > 0) {
        controller.abort();
      }
    }
    await canceled;
    await on.worker.assertClean();
  });

  test("ends a build whose client is gone, and leaves nothing", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    await using worker = await startWorker();
    const channel = unixChannel(worker.address);
    const control = createClient(Control, channel);
    const Definition = definitionOf(step(reference, "echo started; sleep 3000"));
    const solving = assert.rejects(control.solve({ Ref: "abandoned", Definition }), {
      code: Code.Unavailable,
    });
    const watching = assert.rejects(async () => {
      for await (const { logs } of control.status({ Ref: "abandoned" })) {
        if (logs.length > 0) {
          channel[Symbol.dispose]();
        }
      }
    });
    await Promise.all([solving, watching]);
    // Its progress ends when all of it has.
    using again = unixChannel(worker.address);
    const errors: string[] = [];
    for await (const { vertexes } of createClient(Control, again).status({ Ref: "abandoned" })) {
      errors.push(...vertexes.map(({ error }) => error).filter(Boolean));
    }
    assert.deepEqual(errors, ["context canceled"]);
    await worker.assertClean();
  });

  test("does the same work once for builds that want it at the same time", async () => {
    await using on = await fixture();
    await using gate = await makeGate();
    const tree = step(on.reference, `echo once; ${gate.command}`);
    const builds = [1, 2, 3].map(() => on.worker.client.solve(definitionOf(tree), on));
    let heard = 0;
    const outputs = builds.map((build) =>
      watch(build, () => {
        heard += 1;
        if (heard === builds.length) {
          gate.open();
        }
      }),
    );
    await Promise.all(builds.map(({ result }) => result));
    assert.deepEqual(
      (await Promise.all(outputs)).map(({ stdout }) => stdout),
      ["once\n", "once\n", "once\n"],
    );
    const committed = (await on.worker.snapshots()).filter((name) => name.startsWith("committed result-"));
    assert.equal(committed.length, 1);
  });

  test("takes a definition with Solve itself, as clients before v0.11 send it", async () => {
    await using registry = await startRegistry();
    const reference = await pushTo(registry, await createImage());
    await using worker = await startWorker();
    using channel = unixChannel(worker.address);
    const control = createClient(Control, channel);
    const Definition = definitionOf(step(reference, "echo plain"));
    const solving = control.solve({ Ref: "plain", Definition });
    let stdout = "";
    for await (const { logs } of control.status({ Ref: "plain" })) {
      stdout += logs.map(({ msg }) => Buffer.from(msg).toString()).join("");
    }
    assert.deepEqual((await solving).ExporterResponse, {});
    assert.equal(stdout, "plain\n");
    await assert.rejects(control.solve({ Ref: "plain", Definition }), /job ID plain exists/);
  });
});

describe("a worker refuses", () => {
  const unknown = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

  test("definitions that are none, and operations that it does not have", async () => {
    await using worker = await startWorker();
    using channel = unixChannel(worker.address);
    const control = createClient(Control, channel);
    const solving = (Definition: Parameters<typeof create<typeof DefinitionSchema>>[1], Ref: string) =>
      control.solve({ Ref, Definition });
    const cases = [
      {
        name: "garbage",
        definition: { def: [Buffer.from("garbage")] },
        message: /failed to parse llb proto op/,
      },
      { name: "one op", definition: { def: [Buffer.alloc(0)] }, message: /invalid LLB with 1 vertexes/ },
    ];
    for (const { name, definition, message } of cases) {
      await assert.rejects(solving(definition, name), (error) => {
        assert(error instanceof ConnectError);
        assert.equal(error.code, Code.InvalidArgument);
        assert.match(error.rawMessage, message);
        return true;
      });
    }
    await assert.rejects(control.solve({ Ref: "frontend", Frontend: "dockerfile.v0" }), {
      code: Code.Unimplemented,
    });
    for (const Cache of [
      { Exports: [{ Type: "registry" }] },
      { ExportRefDeprecated: "registry.example/cache" },
    ]) {
      await assert.rejects(control.solve({ Ref: "cache", Cache }), /unknown cache exporter: "registry"/);
    }
    await assert.rejects(control.solve({ Ref: "exporter", Exporters: [{ Type: "wish" }] }), (error) => {
      assert(error instanceof ConnectError);
      assert.match(error.rawMessage, /exporter "wish" could not be found/);
      return true;
    });
  });

  test("to build by source policies, which it would not heed", async () => {
    await using worker = await startWorker();
    using channel = unixChannel(worker.address);
    const [control, bridge] = [createClient(Control, channel), createClient(LLBBridge, channel)];
    const policy = { rules: [{ selector: { identifier: "docker-image://*" } }] };
    const refused = (error: unknown) => {
      assert(error instanceof ConnectError);
      assert.equal(error.code, Code.Unimplemented);
      assert.match(error.rawMessage, /Cannot build by a source policy: this worker heeds none/);
      return true;
    };
    await assert.rejects(control.solve({ Ref: "a", SourcePolicy: policy }), refused);
    await assert.rejects(control.solve({ Ref: "b", SourcePolicySession: "session" }), refused);
    const solving = control.solve({ Ref: "c", SourcePolicy: { version: 1n } });
    const headers = { "buildkit-controlapi-buildid": "c" };
    await assert.rejects(bridge.solve({ SourcePolicies: [policy] }, { headers }), refused);
    await assert.rejects(bridge.resolveImageConfig({ SourcePolicies: [policy] }, { headers }), refused);
    await bridge.return({}, { headers });
    await solving;
  });

  test("builds, sessions and results that it does not know", async () => {
    await using worker = await startWorker();
    using channel = unixChannel(worker.address);
    const bridge = createClient(LLBBridge, channel);
    const control = createClient(Control, channel);
    const inBuild = (id: string) => ({ headers: { "buildkit-controlapi-buildid": id } });
    const solving = control.solve({ Ref: "s", Session: "unknown", Exporters: [{ Type: "local" }] });
    await Promise.all([
      assert.rejects(
        bridge.ping({}, inBuild("x")).then(() => bridge.evaluate({ Ref: unknown })),
        /no buildid found/,
      ),
      assert.rejects(bridge.return({}, inBuild("nobody")), /no such job nobody/),
      assert.rejects(control.status({ Ref: "nobody" })[Symbol.asyncIterator]().next(), /no such job nobody/),
      assert.rejects(solving, /no active session for unknown/),
      assert
        .rejects(bridge.evaluate({ Ref: unknown }, inBuild("s")), /Cannot use result/)
        .then(() => bridge.return({}, inBuild("s"))),
    ]);
  });
});
