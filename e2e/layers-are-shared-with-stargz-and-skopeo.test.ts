import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { tocDigestAnnotation, tocDigestOf } from "@oci-worker/estargz/annotations";
import { buildLayer } from "@oci-worker/estargz/build";
import { readChunk } from "@oci-worker/estargz/chunk";
import { blobInMemory, type OpenLayer, openLayer } from "@oci-worker/estargz/open";
import { nodeAt } from "@oci-worker/estargz/tree";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { parseImageDocument } from "@oci-worker/oci/manifest";
import { ociManifest } from "@oci-worker/oci/media-type";
import { formatReference } from "@oci-worker/oci/reference";
import { startContainerd } from "./peers/containerd.ts";
import { assembleImage, type ImageLayerContent, layerOf, programs } from "./peers/image.ts";
import { pushTo } from "./peers/pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./peers/registry.ts";
import { runStargz, type StoredLayer, storedLayers, tocDigestAtStargz } from "./peers/stargz.ts";

const run = promisify(execFile);

/** Several chunks of it, of which some are zeros. */
const big = Buffer.concat([Buffer.alloc(150_000, "text that gets smaller "), Buffer.alloc(200_000)]);

const members: readonly TarMember[] = [
  { type: "directory", name: "data", mode: 0o750, uid: 5, gid: 6, modifiedNs: 1_600_000_000n * 10n ** 9n },
  { type: "file", name: "data/big", content: big },
  { type: "file", name: "data/empty" },
  { type: "hard link", name: "data/linked", linkName: "data/big" },
  { type: "symlink", name: "data/pointed", linkName: "big" },
  { type: "file", name: "implicit/dir/file", mode: 0o4711, content: Buffer.from("x") },
  {
    type: "file",
    name: "data/noted",
    content: Buffer.from("y"),
    xattrs: { "user.note": Buffer.from([1, 0, 255]) },
  },
  { type: "fifo", name: "data/pipe" },
  { type: "character device", name: "data/null", deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
  { type: "file", name: "etc/.wh.gone" },
];

/** What {@link members} have to be when they are read in parts. */
async function requireMembers({ descriptor, blob }: StoredLayer): Promise<OpenLayer> {
  const trusted = tocDigestOf(descriptor.annotations ?? {});
  assert(trusted !== undefined);
  const layer = await openLayer(blobInMemory(blob), { trusted });
  assert(layer !== undefined);
  for (const member of members) {
    const path = member.name.toString();
    const node = nodeAt(layer.tree, path);
    if (path.includes(".wh.")) {
      assert.deepEqual([node, nodeAt(layer.tree, "etc/gone")?.type], [undefined, "whiteout"]);
    } else if (member.type === "hard link") {
      assert.equal(node, nodeAt(layer.tree, member.linkName?.toString() ?? ""));
    } else {
      assert(node !== undefined, path);
      assert.deepEqual(
        [node.type, node.uid, node.gid, node.modifiedNs],
        [member.type, member.uid ?? 0, member.gid ?? 0, member.modifiedNs ?? 0n],
      );
      assert.deepEqual(Object.fromEntries(node.xattrs), member.xattrs ?? {});
    }
    if (member.type === "file" && node?.type === "file") {
      const content = Buffer.alloc(node.sizeBytes);
      for (const chunk of node.chunks) {
        const bytes = blob.subarray(chunk.offset, chunk.offset + chunk.compressedBytes);
        readChunk(chunk, layer.compression, bytes).copy(content, chunk.fileOffset);
      }
      assert(content.equals((member.content as Buffer | undefined) ?? Buffer.alloc(0)), path);
    }
  }
  const file = nodeAt(layer.tree, "implicit/dir/file");
  assert.deepEqual([file?.mode, nodeAt(layer.tree, "implicit/dir")?.mode], [0o4711, 0o755]);
  return layer;
}

/** Pushes an image of busybox and {@link members}, and gives its name. */
async function pushOrdinary(registry: RegistryPeer): Promise<string> {
  const image = assembleImage([await layerOf(await programs()), await layerOf(members)]);
  return formatReference(await pushTo(registry, image, "test/ordinary"));
}

const formats = ["eStargz", "zstd:chunked"] as const;

/** A layer of `files`, built by us. */
async function builtLayer(
  files: readonly TarMember[],
  format: (typeof formats)[number],
): Promise<ImageLayerContent> {
  const archive = Buffer.concat(await Array.fromAsync(writeTar(files)));
  const written: Buffer[] = [];
  const { mediaType, digest, sizeBytes, annotations, diffID } = await buildLayer(
    { pieces: [archive], sizeBytes: archive.length },
    async (bytes) => written.push(bytes),
    { format, chunkBytes: 65_536, priorities: ["data/noted", "bin/busybox"] },
  );
  return {
    blob: Buffer.concat(written),
    descriptor: { mediaType, digest, size: sizeBytes, annotations },
    diffID,
  };
}

describe("a layer that can be read in parts", () => {
  for (const { flags, format } of [
    { flags: ["--estargz", "--estargz-chunk-size", "65536"], format: "eStargz" },
    { flags: ["--estargz"], format: "eStargz" },
    { flags: ["--zstdchunked"], format: "zstd:chunked" },
  ]) {
    test(`is read by us as stargz-snapshotter makes it with ${flags.join(" ")}`, async () => {
      await using registry = await startRegistry();
      const source = await pushOrdinary(registry);
      await using containerd = await startContainerd();
      await containerd.ctr("content", "fetch", "--plain-http", source);
      await runStargz(containerd, "images", "convert", "--oci", ...flags, source, "converted:1");
      const [programLayer, memberLayer] = await storedLayers(containerd, "converted:1");
      assert(programLayer && memberLayer);
      const layer = await requireMembers(memberLayer);
      assert.deepEqual([layer.format, layer.tree.prefetchBytes], [format, 0]);
      assert.equal(layer.tocDigest, memberLayer.descriptor.annotations?.[tocDigestAnnotation]);
    });
  }

  test("is read by us as skopeo makes it", async () => {
    await using registry = await startRegistry();
    const source = await pushOrdinary(registry);
    await using directory = await mkdtempDisposable(join(tmpdir(), "skopeo-"));
    const target = join(directory.path, "image");
    const flags = [
      "--insecure-policy",
      "copy",
      "--src-tls-verify=false",
      "--dest-compress-format",
      "zstd:chunked",
    ];
    await runSkopeo(...flags, `docker://${source}`, `oci:${target}:1`);
    const blobAt = (digest: string) => readFile(join(target, "blobs/sha256", digest.slice("sha256:".length)));
    const index = JSON.parse(await readFile(join(target, "index.json"), "utf8"));
    const manifest = parseImageDocument(await blobAt(index.manifests[0].digest), ociManifest);
    const descriptor = "layers" in manifest ? manifest.layers[1] : undefined;
    assert(descriptor !== undefined);
    const layer = await requireMembers({ descriptor, blob: await blobAt(descriptor.digest) });
    assert.equal(layer.format, "zstd:chunked");
  });

  for (const format of formats) {
    test(`is taken by stargz-snapshotter and containerd as we make it: ${format}`, async () => {
      await using registry = await startRegistry();
      const layers = [await builtLayer(await programs(), format), await builtLayer(members, format)];
      const image = assembleImage(layers);
      const name = formatReference(await pushTo(registry, image, "test/built"));
      await using containerd = await startContainerd();
      // Unpacks too, and checks the diffIDs.
      await runStargz(containerd, "images", "rpull", "--plain-http", "--snapshotter", "overlayfs", name);
      const stored = await storedLayers(containerd, name);
      for (const [index, chainID] of chainIDs(image.diffIDs).entries()) {
        const { descriptor } = stored[index] ?? assert.fail();
        const tocDigest = descriptor.annotations?.[tocDigestAnnotation];
        assert.equal(await tocDigestAtStargz(containerd, descriptor.digest, format), tocDigest);
        const { Labels: labels } = JSON.parse(
          await containerd.ctr("snapshots", "--snapshotter", "overlayfs", "info", chainID),
        );
        assert.equal(labels[tocDigestAnnotation], tocDigest);
      }
      const said = await containerd.ctr(
        "run",
        "--rm",
        "--snapshotter",
        "overlayfs",
        name,
        "reader",
        "cat",
        "/data/linked",
      );
      assert.equal(said, big.toString());
    });
  }
});

async function runSkopeo(...args: string[]): Promise<void> {
  try {
    await run("skopeo", args);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      throw new Error("missing peer: there is no skopeo, install the Debian package skopeo", { cause });
    }
    throw cause;
  }
}
