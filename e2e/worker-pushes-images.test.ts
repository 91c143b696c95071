import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { Build } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import { type CredentialSource, credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { definitionOf, image, run as runIn, type Tree } from "@oci-worker/llb/build";
import { formatReference, parseReference, type Reference } from "@oci-worker/oci/reference";
import { createAuthority } from "./peers/certificates.ts";
import { startContainerd } from "./peers/containerd.ts";
import { createImage } from "./peers/image.ts";
import { startPushFront } from "./peers/push-front.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { startTokenServer } from "./peers/token-server.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const execute = promisify(execFile);

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

/** What must not be seen anywhere. */
const wrongPassword = "wr0ng-c4n4ry";

/** The image `reference`, and a file more. */
function changed(reference: Reference): Tree {
  const args = ["sh", "-c", "echo made > /made"];
  return runIn({ root: image(reference), args, env: ["PATH=/bin"] }).root;
}

function passwordAt(host: string, secret: string = user.password): CredentialSource {
  return credentialsFor(host, { kind: "password", username: user.username, password: new Secret(secret) });
}

/** A registry that nothing is asked of, with a small image in it. */
async function withBase(): Promise<{ readonly reference: Reference } & AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage());
  const owned = undo.move();
  return { reference, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** What has been shown of a build, to its end. */
async function shown(build: Build) {
  const rows: string[] = [];
  let log = "";
  try {
    for await (const { tasks, logs } of build.status) {
      rows.push(...tasks.filter(({ completedAtMs }) => completedAtMs !== undefined).map(({ id }) => id));
      log += logs.map(({ data }) => Buffer.from(data).toString()).join("");
    }
  } catch {
    // Told by the result.
  }
  return { rows, log };
}

/** Has `worker` make an image of `tree`. */
async function push(
  worker: Pick<WorkerPeer, "client">,
  tree: Tree,
  attributes: Readonly<Record<string, string>>,
  credentials?: CredentialSource,
) {
  const build = worker.client.solve(definitionOf(tree), {
    output: { type: "exporter", name: "image", attributes },
    ...(credentials && { credentials }),
  });
  const [{ exporterResponse: response }, seen] = await Promise.all([build.result, shown(build)]);
  return { response, ...seen, digest: response["containerimage.digest"] ?? "" };
}

/** Runs skopeo against registries that do without TLS. */
async function skopeo(command: string, flags: readonly string[], ...args: string[]): Promise<string> {
  try {
    return (await execute("skopeo", [command, ...flags, ...args])).stdout;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      throw new Error("missing peer: there is no skopeo, install the Debian package skopeo", { cause });
    }
    throw cause;
  }
}

const plain = ["--tls-verify=false"];

/** What the file that was made has in it, where the image is pulled anew. */
async function madeIn(name: string, worker: WorkerPeer, credentials?: CredentialSource): Promise<string> {
  const root = image(parseReference(name));
  const build = worker.client.solve(
    definitionOf(runIn({ root, args: ["cat", "/made"], env: ["PATH=/bin"] }).root),
    { ...(credentials && { credentials }) },
  );
  const [, { log }] = await Promise.all([build.result, shown(build)]);
  return log;
}

async function rejectsWith(work: Promise<unknown>, ...patterns: readonly RegExp[]): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof BuildError);
    for (const pattern of patterns) {
      assert.match(error.message, pattern);
    }
    assert.doesNotMatch(error.message, /c4n4ry/);
    return true;
  });
}

function assertNoSecret(worker: WorkerPeer): void {
  assert(!worker.process.log.some((line) => line.includes("c4n4ry")), "a password is in the log");
}

async function tagsAt(registry: Pick<RegistryPeer, "host">, repository: string): Promise<unknown> {
  const response = await fetch(`http://${registry.host}/v2/${repository}/tags/list`);
  const told = (await response.json()) as { readonly tags?: readonly string[] | null };
  return told.tags ?? "none";
}

describe("a worker", () => {
  test("pushes an image under two names with the client's password, and takes over what the registry has", async () => {
    await using registry = await startRegistry({ access: { kind: "password", ...user } });
    const reference = await pushTo(registry, await createImage());
    const credentials = passwordAt(registry.host);
    const names = [`${registry.host}/team/app:1`, `${registry.host}/other/app`];
    const pushed = await (async () => {
      await using worker = await startWorker();
      const attributes = { name: names.join(","), push: "true", "annotation.org.example.note": "noted" };
      const done = await push(
        worker,
        changed(reference),
        { ...attributes, "oci-mediatypes": "true" },
        credentials,
      );
      assert.equal(done.response["image.name"], names.join(","));
      const descriptor = JSON.parse(
        Buffer.from(done.response["containerimage.descriptor"] ?? "", "base64").toString(),
      );
      assert.equal(descriptor.digest, done.digest);
      assert.deepEqual(
        done.rows.filter((row) => row.startsWith("pushing")),
        [
          "pushing layers",
          `pushing manifest for ${names[0]}@${done.digest}`,
          "pushing layers",
          `pushing manifest for ${names[1]}:latest@${done.digest}`,
        ],
      );
      assertNoSecret(worker);
      return done;
    })();
    const login = [...plain, "--creds", `${user.username}:${user.password}`];
    for (const name of names) {
      const manifest = JSON.parse(await skopeo("inspect", [...login, "--raw"], `docker://${name}`));
      assert.deepEqual(manifest.annotations, { "org.example.note": "noted" });
      const inspected = JSON.parse(await skopeo("inspect", login, `docker://${name}`));
      assert.equal(inspected.Digest, pushed.digest);
      assert.equal(inspected.Layers.length, 3);
    }
    const uploads = (repository: string) =>
      registry.log.filter((line) => line.includes(`"PUT /v2/${repository}/blobs/uploads/`)).length;
    assert.equal(uploads("team/app"), 2, "the layer that was made, and the config");
    assert.equal(uploads("other/app"), 0);
    await using fresh = await startWorker();
    assert.equal(await madeIn(names[1] ?? "", fresh, credentials), "made\n");
  });

  test("pushes with tokens for this repository, and says what it could not push when there is none", async () => {
    await using base = await withBase();
    const repositories = ["team/app"];
    await using tokens = await startTokenServer({
      users: { [user.username]: { password: user.password, repositories } },
    });
    await using registry = await startRegistry({ access: tokens.access });
    await using worker = await startWorker();
    const name = `${registry.host}/team/app:1`;
    const tree = changed(base.reference);
    const attributes = { name, push: "true" };
    await rejectsWith(
      push(worker, tree, attributes, passwordAt(registry.host, wrongPassword)),
      /failed to push 127\.0\.0\.1:\d+\/team\/app:1: /,
      /Cannot authorize at 127\.0\.0\.1:\d+ for .*session: Cannot get token .* it refuses the credentials/,
    );
    await rejectsWith(
      push(worker, tree, attributes),
      /failed to push 127\.0\.0\.1:\d+\/team\/app:1: Cannot authorize at .*the registry refused these credentials/,
    );
    const { digest } = await push(worker, tree, attributes, passwordAt(registry.host));
    const login = [...plain, "--creds", `${user.username}:${user.password}`];
    assert.equal(JSON.parse(await skopeo("inspect", login, `docker://${name}`)).Digest, digest);
    assert(tokens.requests.some(({ scopes }) => scopes.includes("repository:team/app:pull,push")));
    await rejectsWith(
      push(worker, tree, { ...attributes, name: `${registry.host}/foreign/app` }, passwordAt(registry.host)),
      /failed to push 127\.0\.0\.1:\d+\/foreign\/app: Cannot (push|authorize) .*foreign\/app/,
    );
    assertNoSecret(worker);
  });

  test("pushes by the digest alone, for containerd to pull and run", async () => {
    await using base = await withBase();
    await using registry = await startRegistry();
    await using worker = await startWorker();
    const tree = changed(base.reference);
    const name = `${registry.host}/team/app`;
    const { response, rows, digest } = await push(worker, tree, { name, push: "", "push-by-digest": "true" });
    assert.equal(response["image.name"], name);
    assert(rows.includes(`pushing manifest for ${name}`));
    assert.equal(await tagsAt(registry, "team/app"), "none");
    await using containerd = await startContainerd();
    await containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "native", `${name}@${digest}`);
    const flags = ["--rm", "--snapshotter", "native"];
    assert.equal(await containerd.ctr("run", ...flags, `${name}@${digest}`, "c", "cat", "/made"), "made\n");

    const dangling = await push(worker, tree, { "dangling-name-prefix": name, push: "true" });
    assert.equal(dangling.response["image.name"], `${name}@${digest}`);
    assert.equal(await tagsAt(registry, "team/app"), "none");
  });

  test("makes an image without pushing it, as on any worker without an image store", async () => {
    await using base = await withBase();
    await using worker = await startWorker();
    const attributes = {
      name: "registry.invalid/app:1",
      unpack: "true",
      store: "true",
      "name-canonical": "true",
    };
    const { response, rows } = await push(worker, changed(base.reference), attributes);
    assert.equal(response["image.name"], attributes.name);
    assert.match(response["containerimage.config.digest"] ?? "", /^sha256:[0-9a-f]{64}$/);
    assert.deepEqual(
      rows.filter((row) => row.startsWith("pushing")),
      [],
    );
  });

  test("pushes to the registry that is meant, by its authority, and to none of its mirrors", async () => {
    await using base = await withBase();
    await using directory = await mkdtempDisposable(join(tmpdir(), "push-"));
    const authority = await createAuthority(directory.path, "authority");
    const { cert: certFile, key: keyFile } = await authority.sign("registry");
    await using registry = await startRegistry({ tls: { certFile, keyFile } });
    await using mirrored = await startRegistry();
    await using mirror = await startPushFront(mirrored.host);
    const tree = changed(base.reference);
    const attributes = { name: `${registry.host}/team/app:1`, push: "true" };
    const mirrors = `mirrors = ["${mirror.host}"]`;
    {
      const config = `[registry."${registry.host}"]\nhttp = false\n${mirrors}\n`;
      await using worker = await startWorker({ config });
      await rejectsWith(
        push(worker, tree, attributes),
        /^failed to push \S+: Cannot push blob \S+ of team\/app from \S+: its certificate is signed by an authority that is not trusted/,
      );
    }
    const config = `[registry."${registry.host}"]\nhttp = false\nca = ["${authority.cert}"]\n${mirrors}\n`;
    await using worker = await startWorker({ config });
    await push(worker, tree, attributes);
    assert.deepEqual(mirror.lines, []);
    assert(registry.log.some((line) => line.includes('"PUT /v2/team/app/manifests/1 HTTP/')));
  });

  test("pushes to whoever answers, if the client wants that, and shows nobody there the operator's credentials", async () => {
    await using base = await withBase();
    await using directory = await mkdtempDisposable(join(tmpdir(), "push-"));
    const authority = await createAuthority(directory.path, "authority");
    const { cert: certFile, key: keyFile } = await authority.sign("registry");
    const access = { kind: "password", ...user } as const;
    await using secure = await startRegistry({ access, tls: { certFile, keyFile } });
    await using open = await startRegistry({ access });
    const tree = changed(base.reference);
    const auth = Buffer.from(`${user.username}:${user.password}`).toString("base64");
    const auths = { [secure.host]: { auth }, [open.host]: { auth } };
    await writeFile(join(directory.path, "config.json"), JSON.stringify({ auths }));
    const config = [secure, open].map(({ host }) => `[registry."${host}"]\nhttp = false\n`).join("");
    await using worker = await startWorker({ config, environment: { DOCKER_CONFIG: directory.path } });
    for (const { host } of [secure, open]) {
      const attributes = { name: `${host}/team/app:1`, push: "true" };
      await rejectsWith(
        push(worker, tree, attributes),
        /failed to push \S+: Cannot push blob .* (TLS|not trusted)/,
      );
      const insecure = { ...attributes, "registry.insecure": "true" };
      await rejectsWith(push(worker, tree, insecure), /failed to push \S+: Cannot authorize at /);
      await push(worker, tree, insecure, passwordAt(host));
    }
    for (const { log } of [secure, open]) {
      assert(log.some((line) => line.includes('"PUT /v2/team/app/manifests/1 HTTP/')));
    }
  });

  test("goes on when the registry is busy, out of order, or dies in the middle of an upload", async () => {
    await using base = await withBase();
    await using registry = await startRegistry();
    await using front = await startPushFront(registry.host);
    await using worker = await startWorker();
    const mishaps = [
      { of: "POST", status: 429, headers: { "retry-after": "0" } },
      { of: "PUT", status: 503, headers: {} },
      { of: "PUT", status: 0, headers: {} },
    ];
    let back: Promise<void> | undefined;
    front.intercept = async (incoming, response) => {
      await back;
      const [next] = mishaps;
      if (next === undefined || next.of !== incoming.method || /manifests/.test(incoming.url ?? "")) {
        return false;
      }
      mishaps.shift();
      if (next.status !== 0) {
        incoming.resume();
        response.writeHead(next.status, next.headers).end();
        return true;
      }
      await once(incoming, "readable");
      back = registry.stop().then(() => registry.start());
      await back;
      response.destroy();
      return true;
    };
    const name = `${front.host}/team/app:1`;
    const { digest, log } = await push(worker, changed(base.reference), { name, push: "true" });
    assert.deepEqual(mishaps, []);
    assert.match(log, /Cannot push blob \S+ of team\/app from \S+: it answered HTTP 429; trying again in /);
    assert.match(log, /it answered HTTP 503; trying again in /);
    // Where the connection is an old one the upload is tried again at once, and the registry knows nothing of it any more.
    assert.match(log, /(the connection broke \(ECONNRESET\)|it answered HTTP 404: [^\n]*); trying again in /);
    assert.equal(JSON.parse(await skopeo("inspect", plain, `docker://${name}`)).Digest, digest);
  });

  test("pushes in pieces through a proxy that takes no more at once", async () => {
    await using base = await withBase();
    await using registry = await startRegistry();
    await using front = await startPushFront(registry.host);
    await using worker = await startWorker();
    front.intercept = (incoming, response) => {
      const isRefused = Number(incoming.headers["content-length"] ?? 0) > 1024 * 1024;
      if (isRefused) {
        incoming.resume();
        response.writeHead(413).end();
      }
      return isRefused;
    };
    const args = ["sh", "-c", "echo made > /made && busybox head -c 3000000 /dev/urandom > /noise"];
    const tree = runIn({ root: image(base.reference), args, env: ["PATH=/bin"] }).root;
    const name = `${front.host}/team/app:1`;
    const { digest, log } = await push(worker, tree, { name, push: "true" });
    assert.doesNotMatch(log, /trying again/);
    assert(front.lines.filter((line) => line.startsWith("PATCH ")).length >= 3);
    assert.equal(JSON.parse(await skopeo("inspect", plain, `docker://${name}`)).Digest, digest);
    await using fresh = await startWorker();
    assert.equal(await madeIn(name, fresh), "made\n");
  });

  test("pushes for ociw what a command has made of an image, which keeps its config", async () => {
    await using registry = await startRegistry({ access: { kind: "password", ...user } });
    const base = await pushTo(registry, await createImage({ config: { Labels: { base: "yes" } } }));
    await using worker = await startWorker();
    const name = `${registry.host}/team/app:1`;
    const run = [
      "run",
      "--push",
      name,
      "--username",
      user.username,
      "--password-stdin",
      "--progress",
      "quiet",
    ];
    const command = [formatReference(base), "--", "sh", "-c", "echo ran; echo made > /made"];
    const ociw = async (password: string) => {
      const running = execute(program, ["--addr", worker.address, ...run, ...command]);
      running.child.stdin?.end(password);
      return await running;
    };
    const { stdout, stderr } = await ociw(user.password);
    assert.equal(stdout, "ran\n");
    const login = [...plain, "--creds", `${user.username}:${user.password}`];
    const inspected = JSON.parse(await skopeo("inspect", login, `docker://${name}`));
    assert.equal(stderr, `pushed ${name}@${inspected.Digest}\n`);
    assert.deepEqual(inspected.Labels, { base: "yes" });
    assert.equal(await madeIn(name, worker, passwordAt(registry.host)), "made\n");
  });

  test("that is killed in the middle of a push leaves nothing in the way of the next one", async () => {
    await using base = await withBase();
    await using registry = await startRegistry();
    await using front = await startPushFront(registry.host);
    await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
    const name = `${front.host}/team/app:1`;
    // Large enough to be under way, as nothing compresses it.
    const script = "echo made > /made && busybox head -c 4194304 /dev/urandom > /noise";
    const args = ["sh", "-c", script];
    const tree = runIn({ root: image(base.reference), args, env: ["PATH=/bin"] }).root;
    {
      await using worker = await startWorker({ directory: directory.path });
      const underWay = Promise.withResolvers<void>();
      front.intercept = async (incoming) => {
        if (incoming.method === "PUT") {
          await once(incoming, "readable");
          underWay.resolve();
          await once(incoming, "close");
          return true;
        }
        return false;
      };
      const pushing = assert.rejects(push(worker, tree, { name, push: "true" }));
      await underWay.promise;
      await worker.process.kill();
      await pushing;
      assert.equal(await tagsAt(registry, "team/app"), "none");
    }
    front.intercept = undefined;
    await using worker = await startWorker({ directory: directory.path });
    const { digest } = await push(worker, tree, { name, push: "true" });
    assert.equal(JSON.parse(await skopeo("inspect", plain, `docker://${name}`)).Digest, digest);
    await worker.assertClean();
    await using fresh = await startWorker();
    assert.equal(await madeIn(name, fresh), "made\n");
  });

  test("refuses to push what has no name, or one that cannot be", async () => {
    await using worker = await startWorker();
    const output = (attributes: Readonly<Record<string, string>>) =>
      worker.client.build(async () => undefined, { output: { type: "exporter", name: "image", attributes } })
        .result;
    for (const [attributes, message] of [
      [{ push: "true" }, /Cannot push image: it has no name, want name=HOST\/REPOSITORY:TAG/],
      [{ push: "perhaps" }, /non-bool value specified for push: "perhaps"/],
      [{ push: "true", name: "Not A Name" }, /Cannot use "Not A Name" as an image reference/],
      [
        { push: "true", name: "localhost:5000/app:1", "push-by-digest": "true" },
        /can't push tagged ref localhost:5000\/app:1 by digest, want localhost:5000\/app/,
      ],
      [{ compression: "lzma" }, /unsupported compression type "lzma"/],
    ] as const) {
      await rejectsWith(output(attributes), message);
    }
    await rejectsWith(
      output({ push: "true", name: `127.0.0.1:1/app@sha256:${"0".repeat(64)}` }),
      /failed to push .*: the image has digest sha256:[0-9a-f]{64}, want sha256:0{64} as its name says/,
    );
    await rejectsWith(
      output({ push: "true", name: "127.0.0.1:1/app" }),
      /failed to push 127\.0\.0\.1:1\/app: Cannot push blob \S+ of app from 127\.0\.0\.1:1: it refuses connections/,
    );
  });
});
