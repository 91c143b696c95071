import { execFile } from "node:child_process";
import { link, mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { applyLayer } from "@oci-worker/layer/apply";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { extendChain } from "@oci-worker/oci/chain-id";
import { digestOf } from "@oci-worker/oci/digest";
import { ociConfig, ociLayerGzip, ociManifest } from "@oci-worker/oci/media-type";
import { hostPlatform } from "@oci-worker/oci/platform";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { type ContainerdPeer, startContainerd } from "../../e2e/peers/containerd.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { type DebianLayer, debianLayer } from "../debian-layer.ts";
import type { Report } from "../report.ts";

const rounds = 5;

/** Unpacking one large layer: ours as the worker does it, containerd's as `ctr snapshots unpack` does it. */
export async function unpack(): Promise<Report> {
  const layer = await debianLayer();
  const ours: number[] = [];
  const peers: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    peers.push(await onContainerd(layer));
    ours.push(await onOurs(layer));
  }
  return {
    title: "Unpack",
    method: `A Debian root file system as one layer, ${Math.round(layer.sizeBytes / 1e6)} MB of gzip, into overlayfs on the same disk: prepare, unpack with both digests verified, commit. Medians of ${rounds} rounds, taken in turns.`,
    peer: "containerd",
    comparisons: [
      { what: "time", unit: "s", ours: median(ours), peers: median(peers), want: { atMost: 0.45 } },
    ],
  };
}

async function onOurs({ blobPath, digest, diffID, sizeBytes }: DebianLayer): Promise<number> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const address = join(directory.path, "s.sock");
  await using _server = await startProcess({
    program: join(import.meta.dirname, "../../services/snapshotter/bin/oci-snapshotter"),
    args: ["--root", join(directory.path, "root"), "--address", address, "--snapshotter", "overlayfs"],
    ready: /"msg":"serving"/,
  });
  await using snapshotter = openProxy(address, { snapshotter: "overlayfs" });
  const startedAt = performance.now();
  const mounts = await snapshotter.prepare("extract", undefined, {});
  {
    await using mounted = await mountTemporarily(mounts, directory.path);
    const layer = { blobPath, digest, sizeBytes, diffId: diffID, directory: mounted.path };
    await applyLayer(layer, new AbortController().signal);
  }
  await snapshotter.commit(diffID, "extract", {});
  return (performance.now() - startedAt) / 1000;
}

async function onContainerd(layer: DebianLayer): Promise<number> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  await using containerd = await startContainerd();
  const manifest = await importImage(containerd, layer, directory.path);
  const startedAt = performance.now();
  await containerd.ctr("snapshots", "--snapshotter", "overlayfs", "unpack", manifest);
  const seconds = (performance.now() - startedAt) / 1000;
  const name = extendChain(undefined, layer.diffID);
  const listed = await containerd.ctr("snapshots", "--snapshotter", "overlayfs", "list");
  if (!listed.includes(name)) {
    throw new Error(`containerd has unpacked something else than ${name}:\n${listed}`);
  }
  return seconds;
}

/** Gives containerd an image of that one layer, without unpacking it. Returns the digest of its manifest. */
async function importImage(
  containerd: ContainerdPeer,
  layer: DebianLayer,
  directory: string,
): Promise<string> {
  const blobs = join(directory, "image/blobs/sha256");
  await mkdir(blobs, { recursive: true });
  const put = async (document: object) => {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = digestOf(bytes);
    await writeFile(join(blobs, digest.slice("sha256:".length)), bytes);
    return { digest, size: bytes.length };
  };
  await link(layer.blobPath, join(blobs, layer.digest.slice("sha256:".length)));
  const config = await put({
    ...hostPlatform,
    config: {},
    rootfs: { type: "layers", diff_ids: [layer.diffID] },
  });
  const manifest = await put({
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: ociConfig, ...config },
    layers: [{ mediaType: ociLayerGzip, digest: layer.digest, size: layer.sizeBytes }],
  });
  const annotations = { "io.containerd.image.name": "docker.io/library/bench:1" };
  const index = { schemaVersion: 2, manifests: [{ mediaType: ociManifest, ...manifest, annotations }] };
  await writeFile(join(directory, "image/index.json"), JSON.stringify(index));
  await writeFile(join(directory, "image/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const archive = join(directory, "image.tar");
  await promisify(execFile)("tar", [
    "--directory",
    join(directory, "image"),
    "--create",
    "--file",
    archive,
    ".",
  ]);
  await containerd.ctr("images", "import", "--no-unpack", archive);
  return manifest.digest;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
