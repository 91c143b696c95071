import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { BuildError } from "@oci-worker/client/build-error";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { definitionOf, image } from "@oci-worker/llb/build";
import { digestOf } from "@oci-worker/oci/digest";
import { assembleImage, type ImageLayerContent, layerOf, programs, type SmallImage } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { startRegistry } from "./peers/registry.ts";
import { startWorker } from "./peers/worker.ts";

/** Pulls `hostile`, which must fail with `message`, and checks that nothing of it is left anywhere. */
async function refuses(hostile: SmallImage, message: RegExp, spoil?: (storage: string) => Promise<void>) {
  await using registry = await startRegistry();
  const reference = await pushTo(registry, hostile);
  await spoil?.(registry.storage);
  await using worker = await startWorker();
  await assert.rejects(worker.client.solve(definitionOf(image(reference))).result, (error) => {
    assert(error instanceof BuildError, String(error));
    assert.match(error.message, message);
    return true;
  });
  assert.deepEqual(await worker.snapshots(), [], "a snapshot is left");
  assert.deepEqual(await readdir(join(worker.root, "content/ingest")), [], "half a blob is left");
  return worker;
}

/** The two layers of an image, the second one with `members` in it. */
async function withMembers(...members: TarMember[]): Promise<SmallImage> {
  return assembleImage([await layerOf(members)]);
}

const file = (name: string): TarMember => ({ type: "file", name, content: Buffer.from("breakout") });

describe("an image that lies about", () => {
  test("the digest of a layer's content", async () => {
    const layer = await layerOf([file("x")]);
    const other = await layerOf([file("y")]);
    await refuses(assembleImage([{ ...layer, diffID: other.diffID }]), /diff ?id|DiffID/i);
  });

  test("the size of a layer", async () => {
    const layer = await layerOf([file("x")]);
    for (const [sizeBytes, message] of [
      [layer.blob.length + 10, /bytes, want/],
      [layer.blob.length - 10, /bytes|digest/],
    ] as const) {
      const descriptor = { ...layer.descriptor, size: sizeBytes };
      await refuses(assembleImage([{ ...layer, descriptor }]), message);
    }
  });

  test("the number of its layers", async () => {
    const layer = await layerOf([file("x")]);
    const honest = assembleImage([layer]);
    const manifest = JSON.parse(honest.manifest.toString());
    manifest.layers.push(layer.descriptor);
    const lie = { ...honest, manifest: Buffer.from(JSON.stringify(manifest)) };
    await refuses(lie, /2 layers and its config 1 diff_ids/);
  });
});

describe("a registry that has spoilt", () => {
  /** Replaces what the registry holds of a blob. */
  const spoil = (digest: string, content: Uint8Array) => async (storage: string) => {
    const hex = digest.slice("sha256:".length);
    const path = join(storage, "docker/registry/v2/blobs/sha256", hex.slice(0, 2), hex, "data");
    await rm(path);
    await writeFile(path, content);
  };

  test("a layer, is found out by the layer's digest", async () => {
    const layer = await layerOf([file("x")]);
    const padded = { ...layer, blob: Buffer.concat([layer.blob, Buffer.alloc(300 - layer.blob.length)]) };
    const descriptor = { ...layer.descriptor, digest: digestOf(padded.blob), size: padded.blob.length };
    const small = assembleImage([{ ...padded, descriptor }]);
    await refuses(small, /digest/, spoil(descriptor.digest, Buffer.alloc(300, "x")));
  });

  test("a manifest, is found out by the manifest's digest", async () => {
    const small = await withMembers(file("x"));
    const other = await withMembers(file("y"));
    await refuses(small, /digest|bytes/, spoil(digestOf(small.manifest), other.manifest));
  });

  test("a config, is found out by the config's digest", async () => {
    const small = await withMembers(file("x"));
    await refuses(small, /digest|bytes/, spoil(digestOf(small.config), Buffer.alloc(300, "x")));
  });
});

describe("a layer that is damaged", () => {
  const damaged = (layer: ImageLayerContent, blob: Buffer): ImageLayerContent => ({
    ...layer,
    blob,
    descriptor: { ...layer.descriptor, digest: digestOf(blob), size: blob.length },
  });

  test("by truncation is refused", async () => {
    const layer = await layerOf(await programs());
    await refuses(
      assembleImage([damaged(layer, layer.blob.subarray(0, layer.blob.length / 2))]),
      /ends|end|truncated/i,
    );
  });

  test("by garbage is refused", async () => {
    const layer = await layerOf([file("x")]);
    await refuses(assembleImage([damaged(layer, gzipSync(Buffer.alloc(2048, "garbage")))]), /Cannot/);
  });
});

describe("a layer that reaches out of its root", () => {
  /** A place outside, reached by each name and link below as it would be seen from the host. */
  async function outside() {
    const directory = await mkdtempDisposable(join(tmpdir(), "outside-"));
    await writeFile(join(directory.path, "victim"), "untouched");
    return directory;
  }

  const attacks: readonly {
    readonly name: string;
    readonly members: (target: string) => TarMember[];
  }[] = [
    { name: "by ..", members: (target) => [file(`../../../../../../../../..${target}/new`)] },
    { name: "by an absolute name", members: (target) => [file(`${target}/new`)] },
    {
      name: "through a symbolic link",
      members: (target) => [{ type: "symlink", name: "link", linkName: target }, file("link/new")],
    },
    {
      name: "through a hard link",
      members: (target) => [
        { type: "symlink", name: "link", linkName: target },
        { type: "hard link", name: "hard", linkName: "link/victim" },
        file("hard"),
      ],
    },
    {
      name: "by a hard link with ..",
      members: (target) => [
        { type: "hard link", name: "hard", linkName: `../../../../../../../..${target}/victim` },
        file("hard"),
      ],
    },
  ];
  for (const { name, members } of attacks) {
    test(`${name} does not get there`, async () => {
      await using target = await outside();
      const hostile = await withMembers(...members(target.path));
      await using registry = await startRegistry();
      const reference = await pushTo(registry, hostile);
      await using worker = await startWorker();
      // It may be refused, or stay inside: both are right.
      await worker.client.solve(definitionOf(image(reference))).result.catch((error: unknown) => {
        assert(error instanceof BuildError, String(error));
        assert.match(error.message, /Cannot apply layer/);
      });
      assert.deepEqual(await readdir(target.path), ["victim"]);
    });
  }
});
