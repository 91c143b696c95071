import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { parseImageDocument } from "@oci-worker/oci/manifest";
import { ociManifest } from "@oci-worker/oci/media-type";
import type { ContainerdPeer } from "./containerd.ts";

const run = promisify(execFile);

/** No blob of a test is larger. */
const maxBlobBytes = 64 * 1024 * 1024;

/**
 * Runs `ctr-remote`, stargz-snapshotter's client, on `containerd`, and gives what it prints.
 *
 * @throws with what it prints on standard error, if it fails; and if it is not installed.
 */
export async function runStargz(containerd: ContainerdPeer, ...args: string[]): Promise<string> {
  return (await ctrRemote(containerd, args)).toString();
}

/** A layer as a manifest and a content store have it. */
export interface StoredLayer {
  readonly descriptor: Descriptor;
  readonly blob: Buffer;
}

/** The layers of an image that containerd has, as its manifest and its content store have them. */
export async function storedLayers(containerd: ContainerdPeer, image: string): Promise<StoredLayer[]> {
  const list = await containerd.ctr("images", "list", `name==${image}`);
  const digest = /sha256:[0-9a-f]{64}/.exec(list)?.[0] ?? "";
  const manifest = parseImageDocument(await storedBlob(containerd, digest), ociManifest);
  if (!("layers" in manifest)) {
    throw new Error(`${image} is an index, want one image`);
  }
  return await Promise.all(
    manifest.layers.map(async (descriptor) => ({
      descriptor,
      blob: await storedBlob(containerd, descriptor.digest),
    })),
  );
}

/** What stargz-snapshotter finds to be the digest of the TOC of a layer that containerd has. */
export async function tocDigestAtStargz(
  containerd: ContainerdPeer,
  layer: Digest,
  format: "eStargz" | "zstd:chunked",
): Promise<Digest> {
  const flags = format === "eStargz" ? [] : ["--zstdchunked"];
  return parseDigest((await runStargz(containerd, "images", "get-toc-digest", ...flags, layer)).trim());
}

async function storedBlob(containerd: ContainerdPeer, digest: string): Promise<Buffer> {
  return await ctrRemote(containerd, ["content", "get", digest]);
}

async function ctrRemote({ address, namespace }: ContainerdPeer, args: readonly string[]): Promise<Buffer> {
  try {
    const { stdout } = await run("ctr-remote", ["--address", address, "--namespace", namespace, ...args], {
      encoding: "buffer",
      maxBuffer: maxBlobBytes,
    });
    return stdout;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
      const message = "missing peer: there is no ctr-remote, install the Debian package stargz-snapshotter";
      throw new Error(message, { cause });
    }
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr) : String(cause);
    throw new Error(`ctr-remote ${args.join(" ")}: ${said.trim()}`, { cause });
  }
}
