import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { BuildOptions } from "@oci-worker/client/build";
import { credentialsFor } from "@oci-worker/client/credentials";
import { Secret } from "@oci-worker/credentials/secret";
import { definitionOf, image, run, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { startContainerd } from "./peers/containerd.ts";
import { assembleImage, createImage, layerOf, programs } from "./peers/image.ts";
import { lazyLayerOf } from "./peers/lazy-images.ts";
import { childrenOf, startProcess } from "./peers/process.ts";
import { pushTo, user } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { snapshotterProgram } from "./peers/snapshotter.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

function step(root: Tree, script: string): Tree {
  return run({ root, args: ["sh", "-c", script], env: ["PATH=/bin"] }).root;
}

/** Builds `tree`, and gives what its steps print. */
async function outputOf(
  { client }: Pick<WorkerPeer, "client">,
  tree: Tree,
  options: BuildOptions = {},
): Promise<string> {
  const build = client.solve(definitionOf(tree), options);
  let output = "";
  for await (const { logs } of build.status) {
    output += logs.map(({ data }) => Buffer.from(data).toString()).join("");
  }
  await build.result;
  return output;
}

/** A registry with an image of two layers. */
async function pushed(): Promise<{ readonly reference: Reference } & AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const reference = await pushTo(registry, await createImage({ files: { "/hello": "hello\n" } }));
  const owned = undo.move();
  return { reference, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The process that `worker` has started last with `word` on its command line, once there is one. */
async function childOf(worker: WorkerPeer, word: string): Promise<number> {
  for (;;) {
    for (const child of (await childrenOf(worker.process.pid)).toReversed()) {
      const commandLine = await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "");
      if (commandLine.includes(word)) {
        return child;
      }
    }
    await setImmediate();
  }
}

describe("a worker", () => {
  test("keeps its snapshots in containerd, whose garbage collector lets them be", async () => {
    await using source = await pushed();
    await using containerd = await startContainerd();
    const args = [
      ...["--oci-worker-proxy-snapshotter-path", containerd.address],
      ...["--oci-worker-snapshotter", "overlayfs"],
    ];
    await using worker = await startWorker({
      args,
      snapshotterAddress: containerd.address,
      snapshotterName: "overlayfs",
    });
    const [record] = await worker.client.workers();
    assert.equal(record?.labels["org.mobyproject.buildkit.worker.snapshotter"], "overlayfs");
    const first = step(image(source.reference), "echo kept > /kept; cat /hello");
    assert.equal(await outputOf(worker, first), "hello\n");
    const names = await containerd.ctr("--namespace", "buildkit", "snapshots", "list");
    assert.match(names, /Committed/);
    // Removing content with --sync has containerd collect in all name spaces, and waits for it.
    await containerd.ctr("leases", "create", "--id", "to-collect");
    await containerd.ctr("leases", "delete", "--sync", "to-collect");
    assert.equal(await containerd.ctr("--namespace", "buildkit", "snapshots", "list"), names);
    assert.equal(await outputOf(worker, step(first, "cat /kept")), "kept\n");
  });

  test("says by which name containerd is to be asked, if it does not know one", async () => {
    await using containerd = await startContainerd();
    const started = startWorker({ args: ["--oci-worker-proxy-snapshotter-path", containerd.address] });
    await assert.rejects(
      started,
      /snapshotter not loaded: auto.*want --oci-worker-snapshotter with a name that it knows/,
    );
  });

  test("waits for a snapshotter that is only just starting", async () => {
    await using source = await pushed();
    await using directory = await mkdtempDisposable(join(tmpdir(), "late-"));
    const address = join(directory.path, "s.sock");
    // What a process that was killed leaves: a socket that nobody listens on.
    const stale = createServer().listen(address);
    await once(stale, "listening");
    const dialled = once(stale, "connection");
    const starting = startWorker({
      args: ["--oci-worker-proxy-snapshotter-path", address],
      snapshotterAddress: address,
    });
    starting.catch(() => undefined);
    const [socket] = (await dialled) as [{ destroy(): void }];
    stale.close();
    socket.destroy();
    const root = join(directory.path, "root");
    await using _snapshotter = await startProcess(snapshotterProgram({ root, address, backend: "native" }));
    await using worker = await starting;
    assert.equal(await outputOf(worker, step(image(source.reference), "cat /hello")), "hello\n");
  });

  test("lets its own one have the settings for lazy layers", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "stargz-"));
    const file = join(directory.path, "buildkitd.toml");
    const table =
      "noprefetch = true\nprefetch_size = 5\n[worker.oci.stargzSnapshotter.blob]\nfetching_timeout_sec = 7\n";
    await writeFile(file, `[worker.oci]\nsnapshotter = "stargz"\n[worker.oci.stargzSnapshotter]\n${table}`);
    await using worker = await startWorker({ args: ["--config", file] });
    const environment = await readFile(`/proc/${await childOf(worker, "--snapshotter")}/environ`, "utf8");
    assert(environment.includes("\0OCI_WORKER_SNAPSHOTTER_LAZY_PREFETCH=false\0"));
    assert(environment.includes("\0OCI_WORKER_SNAPSHOTTER_LAZY_FETCH_TIMEOUT_MS=7000\0"));
    assert(
      worker.process.log.some((line) => line.includes("worker.oci.stargzSnapshotter.prefetch_size of")),
      "what means nothing to it is told",
    );
    await using source = await pushed();
    assert.equal(await outputOf(worker, step(image(source.reference), "cat /hello")), "hello\n");
  });

  test("does not unpack layers that its snapshotter reads when they are needed, with the client's password", async () => {
    await using registry = await startRegistry({ access: { kind: "password", ...user } });
    const big = Buffer.alloc(300_000, "lazy ");
    const layers = [
      await lazyLayerOf(await programs()),
      await lazyLayerOf([{ name: "big", type: "file", mode: 0o644, content: big }]),
    ];
    const ordinary = await layerOf([
      { name: "small", type: "file", mode: 0o644, content: Buffer.from("small\n") },
    ]);
    const reference = await pushTo(registry, assembleImage([...layers, ordinary]));
    await using worker = await startWorker({ args: ["--oci-worker-snapshotter", "stargz"] });
    const credentials = credentialsFor(registry.host, {
      kind: "password",
      username: user.username,
      password: new Secret(user.password),
    });
    const tree = step(image(reference), "md5sum /big; cat /small");
    const output = await outputOf(worker, tree, { credentials });
    assert.equal(output, `${createHash("md5").update(big).digest("hex")}  /big\nsmall\n`);
    const blobs = await readdir(join(worker.root, "content/blobs/sha256"));
    const fetched = [...layers, ordinary].map(({ descriptor }) => blobs.includes(descriptor.digest.slice(7)));
    assert.deepEqual(fetched, [false, false, true], "only the layer that cannot be read in parts is fetched");
    assert(worker.process.log.some((line) => line.includes('"remote-snapshot-prepared":"true"')));
  });

  test("waits for its snapshotter when that is killed in the middle of a build, again and again", async () => {
    await using source = await pushed();
    await using worker = await startWorker();
    let tree = step(image(source.reference), "echo 0 > /0");
    for (let index = 1; index < 8; index += 1) {
      tree = step(tree, `cat /${index - 1} && echo ${index} > /${index}`);
    }
    const building = outputOf(worker, tree);
    let hasEnded = false;
    const ended = building.finally(() => {
      hasEnded = true;
    });
    ended.catch(() => undefined);
    let kills = 0;
    for (const rpc of ["Prepare", "Commit", "Prepare", "Stat", "Commit", "Prepare"]) {
      const from = worker.process.log.length;
      const call = worker.process.said(
        new RegExp(`"rpc":"containerd.services.snapshots.v1.Snapshots/${rpc}"`),
        from,
      );
      await Promise.race([call, ended]);
      if (hasEnded) {
        break;
      }
      process.kill(await childOf(worker, "--snapshotter"), "SIGKILL");
      kills += 1;
    }
    assert.equal(await building, "0\n1\n2\n3\n4\n5\n6\n");
    assert(kills >= 3, `it was killed ${kills} times only`);
  });
});
