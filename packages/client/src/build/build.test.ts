import assert from "node:assert/strict";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { CanceledError, InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { loadDefinition } from "@oci-worker/llb/definition";
import { formatReference, parseReference } from "@oci-worker/oci/reference";
import { BuildKitClient } from "../client.ts";
import { failedStep } from "../fake-daemon/failed-step.ts";
import { type FakeDaemonOptions, fakeImageDigest, startFakeDaemon } from "../fake-daemon/fake-daemon.ts";
import { aborted, collect, endless, withDaemon } from "../fake-daemon/with-daemon.ts";
import { BuildError } from "./build-error.ts";

const step = run({ root: image(parseReference("busybox")), args: ["true"] });
const definition = definitionOf(step.root);

describe("a build", () => {
  test("goes by the bridge: resolve, solve, return, and ends with what the exporter says", async () => {
    const options: FakeDaemonOptions = {
      imageConfig: (request) => {
        assert.equal(request.Ref, "docker.io/library/busybox:latest");
        assert.equal(request.ResolveMode, "pull");
        assert.equal(request.Platform?.Architecture, "arm64");
        return { os: "linux", architecture: "arm64", config: { Env: ["A=b"], Cmd: ["sh"] } };
      },
      build: async ({ request, solved, returned }) => {
        assert.equal(request.Definition, undefined);
        const graph = loadDefinition(await solved);
        assert.equal(graph.vertices.at(-1)?.name, "env");
        const { result } = await returned;
        assert.deepEqual(result?.result.value, { $typeName: "moby.buildkit.v1.frontend.Ref", id: "solved" });
        return { "containerimage.digest": "sha256:1" };
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.build(async (gateway) => {
        const platform = { os: "linux", architecture: "arm64" };
        const resolved = await gateway.resolveImage(parseReference("busybox"), {
          platform,
          resolveMode: "pull",
        });
        assert.equal(
          formatReference(resolved.reference),
          `docker.io/library/busybox:latest@${fakeImageDigest}`,
        );
        const { root } = run({ root: image(resolved.reference), args: ["env"], env: resolved.config.env });
        return await gateway.solve(definitionOf(root));
      });
      const result = await build.result;
      assert.deepEqual(result.exporterResponse, { "containerimage.digest": "sha256:1" });
    });
  });

  test("tells its status as it comes, and the status ends with it", async () => {
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        tell({
          vertexes: [{ digest: "d", name: "step", inputs: ["i"], started: { seconds: 1n, nanos: 500_000 } }],
        });
        tell({ statuses: [{ ID: "task", vertex: "d", name: "layer", current: 5n, total: 1n << 40n }] });
        await returned;
        tell({
          logs: [
            { vertex: "d", stream: 1n, msg: Buffer.from("out") },
            { vertex: "d", stream: 2n, msg: Buffer.from("err") },
          ],
          warnings: [{ vertex: "d", short: Buffer.from("careful"), detail: [Buffer.from("why")], url: "u" }],
        });
        return {};
      },
    };
    await withDaemon(options, async ({ client }) => {
      const updates = await collect(client.solve(definition).status);
      assert.deepEqual(
        updates.flatMap(({ vertices }) => vertices),
        [
          {
            digest: "d",
            inputs: ["i"],
            name: "step",
            cached: false,
            startedAtMs: 1000.5,
            completedAtMs: undefined,
            error: "",
          },
        ],
      );
      assert.deepEqual(
        updates
          .flatMap(({ tasks }) => tasks)
          .map(({ id, name, current, total }) => [id, name, current, total]),
        [["task", "layer", 5, 2 ** 40]],
      );
      assert.deepEqual(
        updates.flatMap(({ logs }) => logs).map(({ stream, data }) => [stream, Buffer.from(data).toString()]),
        [
          ["stdout", "out"],
          ["stderr", "err"],
        ],
      );
      assert.deepEqual(
        updates.flatMap(({ warnings }) => warnings),
        [{ vertex: "d", text: "careful", details: ["why"], url: "u" }],
      );
    });
  });

  test("is not held up by a status that nobody reads, which can still be read afterwards", async () => {
    const updates = 5000;
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        for (let index = 0; index < updates; index += 1) {
          tell({ vertexes: [{ digest: String(index), name: "x".repeat(1000) }] });
        }
        await returned;
        return {};
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.solve(definition);
      await build.result;
      const [first] = await collect(build.status);
      assert.equal(first?.vertices[0]?.digest, "0");
    });
  });

  test("all of a long status reaches a reader", async () => {
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        await returned;
        for (let index = 0; index < 5000; index += 1) {
          tell({ vertexes: [{ digest: String(index) }] });
        }
        return {};
      },
    };
    await withDaemon(options, async ({ client }) => {
      assert.equal((await collect(client.solve(definition).status)).length, 5000);
    });
  });

  test("goes on when the reader of its status leaves", async () => {
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        tell({ vertexes: [{ digest: "d" }] });
        await returned;
        return { done: "yes" };
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.solve(definition);
      for await (const _update of build.status) {
        break;
      }
      assert.deepEqual((await build.result).exporterResponse, { done: "yes" });
    });
  });

  test("that fails says which step it was, its exit code and the daemon's words", async () => {
    const message = 'process "false" did not complete successfully: exit code: 3';
    const options: FakeDaemonOptions = {
      build: async ({ returned }) => {
        await returned;
        throw failedStep(`failed to solve: ${message}`, step.digest, 3);
      },
    };
    await withDaemon(options, async ({ client }) => {
      await assert.rejects(client.solve(definition).result, (error) => {
        assert(error instanceof BuildError);
        assert.equal(error.message, message);
        assert.equal(error.vertex, step.digest);
        assert.equal(error.exitCode, 3);
        assert.equal(error.reason, "UNKNOWN");
        return true;
      });
    });
  });

  test("that fails has a status that is complete, also what comes with the failure", async () => {
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        await returned;
        for (let index = 0; index < 500; index += 1) {
          tell({ logs: [{ vertex: "d", stream: 1n, msg: Buffer.alloc(10_000) }] });
        }
        throw failedStep("failed", step.digest, 1);
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.solve(definition);
      const all = (await collect(build.status)).flatMap((update) => update.logs);
      await assert.rejects(build.result, BuildError);
      assert.equal(all.length, 500);
    });
  });

  test("that fails can be asked for its status when its failure is known", async () => {
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned }) => {
        await returned;
        tell({ vertexes: [{ digest: "d", error: "failed" }] });
        throw failedStep("failed", step.digest, 1);
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.solve(definition);
      await assert.rejects(build.result, BuildError);
      const [update] = await collect(build.status);
      assert.equal(update?.vertices[0]?.error, "failed");
    });
  });

  test("whose function fails tells the daemon, and rejects with the function's own error", async () => {
    const told = Promise.withResolvers<string | undefined>();
    const options: FakeDaemonOptions = {
      build: async ({ returned }) => {
        const { error } = await returned;
        told.resolve(error?.message);
        throw new ConnectError("as the client said", Code.Unknown);
      },
    };
    await withDaemon(options, async ({ client }) => {
      const own = new InvalidArgumentError("Cannot build that");
      await assert.rejects(client.build(() => Promise.reject(own)).result, own);
      assert.equal(await told.promise, "Cannot build that");
    });
  });

  test("passes on to the daemon the details of a failure that the daemon gave", async () => {
    const details = Promise.withResolvers<number | undefined>();
    const options: FakeDaemonOptions = {
      imageConfig: () => Promise.reject(failedStep("no such image", "sha256:v")),
      build: async ({ returned }) => {
        const { error } = await returned;
        details.resolve(error?.details.length);
        return {};
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.build(async (gateway) => {
        await gateway.resolveImage(parseReference("busybox"));
        return undefined;
      });
      await assert.rejects(
        build.result,
        (error) => error instanceof BuildError && error.vertex === "sha256:v",
      );
      assert.equal(await details.promise, 2);
    });
  });

  test("that the daemon refuses at once does not wait for its function", async () => {
    const options: FakeDaemonOptions = {
      build: () => Promise.reject(new ConnectError('exporter "x" could not be found', Code.Unknown)),
    };
    await withDaemon(options, async ({ client }) => {
      const forever = Promise.withResolvers<undefined>();
      const build = client.build((_gateway, signal) => {
        signal.addEventListener("abort", () => forever.reject(signal.reason));
        return forever.promise;
      });
      await assert.rejects(build.result, /exporter "x" could not be found/);
    });
  });

  test("that needs what the daemon cannot do fails before it starts", async () => {
    await withDaemon({ capabilities: { llb: ["source.image"] }, build: endless }, async ({ client }) => {
      await assert.rejects(client.solve(definition).result, (error) => {
        assert(error instanceof UnimplementedError);
        assert.match(error.message, /requested feature .* is not supported by build server/);
        return true;
      });
    });
  });

  test("on a daemon too old to take a returned result is refused", async () => {
    await withDaemon({ capabilities: { gateway: ["solve.base"] }, build: endless }, async ({ client }) => {
      await assert.rejects(client.solve(definition).result, /requested feature return is not supported/);
    });
  });

  test("that is aborted is canceled on the daemon, which has cleaned up when it rejects", async () => {
    const events: string[] = [];
    const abort = new AbortController();
    const sessionEnd = Promise.withResolvers<void>();
    const options: FakeDaemonOptions = {
      build: async ({ tell, returned, signal, session }) => {
        await returned;
        session.ended.then(sessionEnd.resolve, sessionEnd.reject);
        abort.abort();
        await aborted(signal);
        events.push("canceled");
        tell({ vertexes: [{ digest: "d", error: "context canceled" }] });
        await new Promise((resolve) => setImmediate(resolve));
        events.push("cleaned up");
        return {};
      },
    };
    await withDaemon(options, async ({ client }) => {
      const build = client.solve(definition, { signal: abort.signal });
      const status = collect(build.status);
      await assert.rejects(build.result, CanceledError);
      events.push("rejected");
      assert.deepEqual(events, ["canceled", "cleaned up", "rejected"]);
      assert.equal((await status).at(-1)?.vertices[0]?.error, "context canceled");
      await sessionEnd.promise;
    });
  });

  test("with a signal that is aborted already does not begin", async () => {
    const build = () => assert.fail("the daemon was asked to build");
    await withDaemon({ build }, async ({ client }) => {
      const started = client.solve(definition, { signal: AbortSignal.abort() });
      await assert.rejects(started.result, CanceledError);
      assert.deepEqual(await collect(started.status), []);
    });
  });

  test("ends when the client is disposed of", async () => {
    const canceled = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const options: FakeDaemonOptions = {
      build: async ({ returned, signal }) => {
        await returned;
        begun.resolve();
        await aborted(signal);
        canceled.resolve();
        return {};
      },
    };
    await using dir = await mkdtempDisposable(join(tmpdir(), "client-"));
    await using _daemon = await startFakeDaemon(join(dir.path, "d.sock"), options);
    let result: Promise<unknown>;
    {
      await using client = new BuildKitClient(`unix://${dir.path}/d.sock`);
      ({ result } = client.solve(definition));
      await begun.promise;
    }
    await canceled.promise;
    await assert.rejects(result, CanceledError);
  });

  test("whose session the daemon closes fails, and says so", async () => {
    const options: FakeDaemonOptions = {
      build: async (build) => {
        await build.returned;
        build.session.close();
        return await endless(build);
      },
    };
    await withDaemon(options, async ({ client }) => {
      await assert.rejects(client.solve(definition).result, /Cannot go on with build: its session ended/);
    });
  });
});

test("a daemon that dies during a build ends the build and its status", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "client-"));
  const begun = Promise.withResolvers<void>();
  const options: FakeDaemonOptions = {
    build: async (build) => {
      await build.returned;
      build.tell({ vertexes: [{ digest: "d" }] });
      begun.resolve();
      return await endless(build);
    },
  };
  const daemon = await startFakeDaemon(join(dir.path, "d.sock"), options);
  await using client = new BuildKitClient(`unix://${dir.path}/d.sock`);
  const build = client.solve(definition);
  const status = collect(build.status).catch(() => "failed");
  await begun.promise;
  await daemon[Symbol.asyncDispose]();
  await assert.rejects(build.result, { reason: "UNAVAILABLE" });
  await status;
});
