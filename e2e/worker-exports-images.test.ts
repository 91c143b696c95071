import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import type { BuildOptions } from "@oci-worker/client/build";
import { BuildError } from "@oci-worker/client/build-error";
import type { BuildFunction } from "@oci-worker/client/gateway";
import { definitionOf, image, run as runIn, type Tree } from "@oci-worker/llb/build";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { parseReference, type Reference } from "@oci-worker/oci/reference";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { assembleImage, layerOf, programs } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { treeAt } from "./peers/tree.ts";
import { members } from "./peers/tree-members.ts";
import { startWorker, type WorkerPeer } from "./peers/worker.ts";

const execute = promisify(execFile);

/** What is done to the image: something of everything that a layer can say. */
const script = [
  "echo made > /made",
  "busybox ln /made /also-made",
  "busybox ln /etc/kept /etc/kept-too",
  "busybox ln -s made /to-made",
  "mkdir -p /deep/er && echo x > /deep/er/file && busybox chown 5:6 /deep/er/file",
  "busybox chmod 4711 /made && busybox chmod 1777 /deep",
  "rm /data/empty && rm -r /data/sticky && mkdir /data/sticky && echo y > /data/sticky/new",
  "rm -r /gone && echo z > /gone",
  "busybox mkfifo /pipe && busybox mknod /device c 1 3",
  `echo long > /deep/${"n".repeat(180)}`,
].join(" && ");

/** An image with layers of every kind, in a registry of its own. */
async function pushed(): Promise<
  { readonly reference: Reference; readonly registry: RegistryPeer } & AsyncDisposable
> {
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const files = [
    { type: "file", name: "etc/kept", content: Buffer.from("kept") },
    { type: "directory", name: "gone" },
    { type: "file", name: "gone/file", content: Buffer.from("gone") },
  ] as const;
  const layers = [await programs(), members, files];
  const made = assembleImage(await Promise.all(layers.map(layerOf)), { Labels: { base: "yes" } });
  const reference = await pushTo(registry, made);
  const owned = undo.move();
  return { reference, registry, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function changed(reference: Reference): Tree {
  return runIn({ root: image(reference), args: ["sh", "-c", script], env: ["PATH=/bin"] }).root;
}

/** Builds `tree` and has it exported into the file `path`. */
async function exportTo(
  path: string,
  worker: Pick<WorkerPeer, "client">,
  what: Tree | BuildFunction,
  exporter: string,
  attributes: Readonly<Record<string, string>>,
) {
  let about: Readonly<Record<string, string>> | undefined;
  const output: BuildOptions["output"] = {
    type: "file",
    exporter,
    attributes,
    async write(pieces, told) {
      about = told;
      await writeFile(path, pieces);
    },
  };
  const build =
    typeof what === "function"
      ? worker.client.build(what, { output })
      : worker.client.solve(definitionOf(what), { output });
  const rows = new Map<string, string>();
  for await (const { tasks } of build.status) {
    for (const { id, name } of tasks) {
      rows.set(id, name);
    }
  }
  const { exporterResponse } = await build.result;
  assert.deepEqual(about, exporterResponse, "the client is told the same before and after");
  return {
    response: exporterResponse,
    made: [...rows.values()].filter((name) => name.startsWith("making layer")),
  };
}

/** Runs a program that judges what we have made. */
async function judge(program: "skopeo" | "umoci" | "zstd", ...args: string[]): Promise<string> {
  try {
    return (await execute(program, args, { maxBuffer: 64 * 1024 * 1024 })).stdout;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      throw new Error(`missing peer: there is no ${program}, install the Debian package ${program}`, {
        cause,
      });
    }
    throw cause;
  }
}

/** The image in the OCI layout at `path`, a tar archive. */
async function imageIn(path: string, directory: string) {
  await execute("mkdir", [directory]);
  await execute("tar", ["-xf", path, "-C", directory]);
  const json = async (name: string) => JSON.parse(await readFile(join(directory, name), "utf8"));
  const blob = (digest: string) => join("blobs/sha256", digest.slice("sha256:".length));
  const [descriptor] = (await json("index.json")).manifests;
  const manifest = await json(blob(descriptor.digest));
  return {
    descriptor,
    manifest,
    config: await json(blob(manifest.config.digest)),
    blobAt: (digest: string) => join(directory, blob(digest)),
  };
}

/** Layers have whole seconds. */
function inSeconds(lines: readonly string[]): string[] {
  return lines.map((line) =>
    line.replace(/^("(?:[^"\\]|\\.)*" [0-7]+ \d+ \d+ \d+)\d{9} /, (_, start) => `${start} `),
  );
}

/** What the last result of `worker` has in it, as its snapshotter shows it. */
async function resultOf(worker: WorkerPeer, backend: string): Promise<string[]> {
  const names = (await worker.snapshots()).flatMap((line) => /^committed (result-.*)/.exec(line)?.[1] ?? []);
  await using snapshotter = openProxy(join(worker.root, "snapshotter.sock"), {
    snapshotter: backend,
    namespace: "buildkit",
  });
  const mounts = await snapshotter.view("look", names.at(-1), {});
  try {
    await using directory = await mkdtempDisposable(join(tmpdir(), "look-"));
    await using mounted = await mountTemporarily(mounts, directory.path);
    return inSeconds(await treeAt(mounted.path));
  } finally {
    await snapshotter.remove("look");
  }
}

for (const backend of ["overlayfs", "native"]) {
  describe(`a worker with snapshots by ${backend}`, () => {
    test("exports results as OCI layouts with layers of each format, and makes each layer once", async () => {
      await using source = await pushed();
      await using worker = await startWorker({ args: ["--oci-worker-snapshotter", backend] });
      await using directory = await mkdtempDisposable(join(tmpdir(), "export-"));
      const tree = changed(source.reference);
      for (const [compression, mediaType, count] of [
        // The base's layers are as they were pulled.
        ["gzip", "application/vnd.oci.image.layer.v1.tar+gzip", 1],
        ["estargz", "application/vnd.oci.image.layer.v1.tar+gzip", 4],
        ["uncompressed", "application/vnd.oci.image.layer.v1.tar", 4],
        ["zstd", "application/vnd.oci.image.layer.v1.tar+zstd", 4],
      ] as const) {
        const attributes = {
          compression,
          name: "example.org/made:1",
          "compression-level": "2",
          ...(compression !== "estargz" && compression !== "gzip" && { "force-compression": "true" }),
        };
        const path = join(directory.path, `${compression}.tar`);
        const first = await exportTo(path, worker, tree, "oci", attributes);
        assert.equal(first.made.length, count, compression);
        const { descriptor, manifest, config, blobAt } = await imageIn(
          path,
          join(directory.path, compression),
        );
        assert.equal(first.response["containerimage.digest"], descriptor.digest);
        assert.equal(first.response["containerimage.config.digest"], manifest.config.digest);
        assert.equal(first.response["image.name"], "example.org/made:1");
        assert.equal(descriptor.annotations["org.opencontainers.image.ref.name"], "1");
        for (const layer of manifest.layers) {
          assert.equal(layer.mediaType, mediaType);
          assert.equal(
            "containerd.io/snapshot/stargz/toc.digest" in (layer.annotations ?? {}),
            compression === "estargz",
          );
        }
        assert.equal(config.history.length, 4);
        assert.match(config.history[3].created_by, /echo made/);
        const inspected = JSON.parse(await judge("skopeo", "inspect", `oci-archive:${path}`));
        assert.deepEqual(
          inspected.Layers,
          manifest.layers.map(({ digest }: { digest: string }) => digest),
        );
        if (compression === "zstd") {
          // Debian's umoci does not know it yet.
          for (const [index, { digest }] of manifest.layers.entries()) {
            const sum = await execute("sh", ["-c", 'zstd -dc < "$1" | sha256sum', "sh", blobAt(digest)]);
            assert.equal(`sha256:${sum.stdout.slice(0, 64)}`, config.rootfs.diff_ids[index]);
          }
        } else {
          const bundle = join(directory.path, `${compression}-bundle`);
          await judge("umoci", "unpack", "--image", `${join(directory.path, compression)}:1`, bundle);
          assert.deepEqual(
            inSeconds(await treeAt(join(bundle, "rootfs"))),
            await resultOf(worker, backend),
            compression,
          );
        }
        const again = await exportTo(path, worker, tree, "oci", attributes);
        assert.deepEqual(again.made, [], "no layer is made twice");
        assert.equal(again.response["containerimage.digest"], descriptor.digest);
      }
    });
  });
}

describe("a worker", () => {
  test("exports layers that can be read in parts: pulled lazily and exported again they stay what they are", async () => {
    await using source = await pushed();
    await using directory = await mkdtempDisposable(join(tmpdir(), "export-"));
    const path = join(directory.path, "lazy.tar");
    {
      await using worker = await startWorker();
      await exportTo(path, worker, changed(source.reference), "oci", { compression: "estargz" });
    }
    const name = `${source.registry.host}/test/lazy:1`;
    await judge("skopeo", "copy", "--dest-tls-verify=false", `oci-archive:${path}`, `docker://${name}`);
    const { manifest } = await imageIn(path, join(directory.path, "lazy"));
    await using worker = await startWorker({ args: ["--oci-worker-snapshotter", "stargz"] });
    const tree = runIn({
      root: image(parseReference(name)),
      args: ["sh", "-c", "cat /also-made /gone && ! ls /data/empty && echo more > /more"],
      env: ["PATH=/bin"],
    }).root;
    const again = join(directory.path, "again.tar");
    const { made } = await exportTo(again, worker, tree, "oci", { compression: "gzip" });
    const prepared = worker.process.log.filter((line) => line.includes('"remote-snapshot-prepared":"true"'));
    assert.equal(prepared.length, 4, "no layer is unpacked");
    assert.equal(made.length, 1);
    const second = await imageIn(again, join(directory.path, "again"));
    assert.deepEqual(second.manifest.layers.slice(0, 4), manifest.layers);
    assert.equal(second.manifest.layers.length, 5);
  });

  test("gives an image the config that comes with the result", async () => {
    await using source = await pushed();
    await using worker = await startWorker();
    await using directory = await mkdtempDisposable(join(tmpdir(), "export-"));
    const path = join(directory.path, "image.tar");
    const build: BuildFunction = async (gateway) => {
      const { config } = await gateway.resolveImage(source.reference);
      const ref = await gateway.solve(definitionOf(changed(source.reference)));
      const document = { ...config.document, author: "somebody", history: [{ created_by: "the base" }] };
      return { ...ref, metadata: { "containerimage.config": Buffer.from(JSON.stringify(document)) } };
    };
    await exportTo(path, worker, build, "oci", {
      "annotation.org.example.note": "noted",
      "source-date-epoch": "1000000000",
    });
    const { descriptor, manifest, config } = await imageIn(path, join(directory.path, "image"));
    assert.deepEqual(config.config.Labels, { base: "yes" });
    assert.equal(config.author, "somebody");
    assert.equal(config.rootfs.diff_ids.length, 4);
    const text = config.history.map((entry: { created_by: string }) => entry.created_by);
    assert.equal(text.length, 4);
    assert.equal(text[0], "the base");
    const times = config.history.map((entry: { created: string }) => Date.parse(entry.created));
    assert.deepEqual(times, [1e12, 1e12, 1e12, 1e12]);
    assert.deepEqual(manifest.annotations, { "org.example.note": "noted" });
    assert.equal(descriptor.annotations["org.opencontainers.image.created"], "2001-09-09T01:46:40Z");
  });

  test("removes the blobs of layers with what they are the layers of", async () => {
    await using source = await pushed();
    await using worker = await startWorker();
    await using directory = await mkdtempDisposable(join(tmpdir(), "export-"));
    const attributes = { compression: "estargz" };
    await exportTo(join(directory.path, "1.tar"), worker, changed(source.reference), "oci", attributes);
    const blobs = join(worker.root, "content/blobs/sha256");
    const before = (await readdir(blobs)).length;
    assert(before >= 8, `${before} blobs`);
    await Array.fromAsync(worker.client.prune({ all: true }));
    // What is left is the log of the build, and the manifest of what it has made.
    assert.equal((await readdir(blobs)).length, 2);
  });

  test("refuses what it cannot make sense of", async () => {
    await using worker = await startWorker();
    const empty: BuildFunction = async () => undefined;
    for (const [attributes, message] of [
      [
        { compression: "lzma" },
        /unsupported compression type "lzma", want uncompressed, gzip, estargz, zstd/,
      ],
      [{ "compression-level": "10" }, /compression-level 10: want -1 to 9 for gzip/],
      [{ "compression-level": "much" }, /non-int value "much" specified for compression-level/],
      [{ "force-compression": "perhaps" }, /non-bool value specified for force-compression: "perhaps"/],
      [{ "annotation-index.a": "b" }, /index annotations not supported for single platform export/],
      [{ "annotation[linux/s390x].a": "b" }, /no platform linux\/s390x found in source/],
      [{ name: "No Name" }, /No Name/],
      [{ "rewrite-timestamp": "true" }, /rewrite-timestamp: this worker does not have that/],
    ] as const) {
      await assert.rejects(exportTo("/dev/null", worker, empty, "oci", attributes), (error) => {
        assert(error instanceof BuildError);
        assert.match(error.message, message);
        return true;
      });
    }
    const output = { type: "exporter", name: "floppy", attributes: {} } as const;
    await assert.rejects(
      worker.client.build(empty, { output }).result,
      /exporter "floppy" could not be found/,
    );
  });
});
