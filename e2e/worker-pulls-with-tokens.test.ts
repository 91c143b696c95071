import assert from "node:assert/strict";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Build } from "@oci-worker/client/build";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { CanceledError } from "@oci-worker/errdefs";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { parseReference } from "@oci-worker/oci/reference";
import { RegistryClient } from "@oci-worker/registry/client";
import { createImage, pushImage } from "./peers/image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startResolver } from "./peers/resolver.ts";
import { startSessionService } from "./peers/session-service.ts";
import { startTokenServer } from "./peers/token-server.ts";
import { startWorker } from "./peers/worker.ts";

const passwords = { alice: "alice-c4n4ry", bob: "bob-c4n4ry" } as const;
const repositories = ["team/app"];
const users = {
  alice: { password: passwords.alice, repositories },
  bob: { password: passwords.bob, repositories },
};

/** A registry with tokens, an image in it, a worker, and builds that print a file of the image. */
async function fixture() {
  await using undo = new AsyncDisposableStack();
  const tokens = undo.use(await startTokenServer({ users }));
  const registry = undo.use(await startRegistry({ access: tokens.access }));
  const reference = parseReference(`${registry.host}/team/app:1`);
  {
    await using service = await startSessionService({
      pushing: { username: "alice", secret: passwords.alice },
    });
    await using resolver = await startResolver({ sessionAddress: service.address });
    using registries = new RegistryClient();
    const source = await resolver.sources.sourceOf(reference, () => ["pushing"], "push");
    await pushImage(
      registries.repository(source),
      await createImage({ files: { "/hello": "hello\n" } }),
      "1",
    );
  }
  const worker = undo.use(await startWorker());
  const seeds = undo.use(await mkdtempDisposable(join(tmpdir(), "seeds-"))).path;
  const { root } = run({ root: image(reference), args: ["cat", "/hello"], env: ["PATH=/bin"] });
  const build = (name: keyof typeof passwords, signal?: AbortSignal, fetchesTokens = true) =>
    worker.client.solve(definitionOf(root), {
      credentials: credentialsFor(registry.host, {
        kind: "password",
        username: name,
        password: new Secret(passwords[name]),
      }),
      fetchesTokens,
      seedDirectory: join(seeds, name),
      ...(signal && { signal }),
    });
  const before = tokens.requests.length;
  const askedBy = () => tokens.requests.slice(before).map(({ user }) => user);
  const owned = undo.move();
  return { tokens, build, askedBy, seeds, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Reads what a build writes to its end, and tells of the moment at which its first vertex has begun. */
function watch(build: Build, onText: (text: string) => void = () => undefined) {
  const begun = Promise.withResolvers<void>();
  const output = { stdout: "", stderr: "" };
  const read = async () => {
    for await (const { logs, vertices } of build.status) {
      if (vertices.some(({ startedAtMs }) => startedAtMs !== undefined)) {
        begun.resolve();
      }
      for (const { data, stream } of logs) {
        const text = Buffer.from(data).toString();
        output[stream] += text;
        onText(text);
      }
    }
    return output;
  };
  return { begun: begun.promise, output: read() };
}

describe("a pull with tokens", () => {
  test("gets them itself if the client is not to", async () => {
    await using on = await fixture();
    const { stdout } = await watch(on.build("alice", undefined, false)).output;
    assert.equal(stdout, "hello\n");
    assert.deepEqual(new Set(on.askedBy()), new Set(["alice"]));
    assert.deepEqual(await readdir(on.seeds), [], "the client has proved that it has an authority");
    await on.build("bob").result;
    assert.deepEqual(await readdir(on.seeds), ["bob"]);
  });

  test("that two builds share goes on with the second one's client when the first one's has gone", async () => {
    await using on = await fixture();
    const asked = Promise.withResolvers<void>();
    const gone = Promise.withResolvers<void>();
    on.tokens.interfere = async (response, { user }) => {
      if (user !== "alice") {
        return false;
      }
      asked.resolve();
      await gone.promise;
      response.destroy();
      return true;
    };
    const leaving = new AbortController();
    const first = on.build("alice", leaving.signal);
    const firstWatched = watch(first);
    await asked.promise;
    const second = on.build("bob");
    const { begun, output } = watch(second);
    // It is told of the vertex that runs for the first one.
    await begun;
    assert.deepEqual(on.askedBy(), ["alice"]);
    leaving.abort();
    await assert.rejects(first.result, CanceledError);
    gone.resolve();
    await second.result;
    assert.equal((await output).stdout, "hello\n");
    assert.ok(on.askedBy().includes("bob"));
    await firstWatched.output.catch(() => undefined);
  });

  test("says what is wrong while a token server fails, and goes on when it does not any more", async () => {
    await using on = await fixture();
    on.tokens.interfere = (response) => {
      response.writeHead(503).end("c4n4ry");
      return true;
    };
    const build = on.build("alice");
    const { output } = watch(build, (text) => {
      if (text.includes("trying again")) {
        on.tokens.interfere = undefined;
      }
    });
    await build.result;
    const { stdout, stderr } = await output;
    assert.equal(stdout, "hello\n");
    assert.match(stderr, /^Cannot authorize at .*: session: Cannot get token .*; trying again in \d\.\d s\n/);
    assert.doesNotMatch(stderr, /c4n4ry/);
  });
});
