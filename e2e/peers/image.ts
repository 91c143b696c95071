import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import { ociConfig, ociLayerGzip, ociManifest } from "@oci-worker/oci/media-type";
import { hostPlatform } from "@oci-worker/oci/platform";
import type { Repository } from "@oci-worker/registry/repository";
import { bytesBody } from "@oci-worker/registry/request";

/** A layer as an image carries it. A test may make it say of itself what is not so. */
export interface ImageLayerContent {
  /** Compressed. */
  readonly blob: Buffer;
  /** What the manifest says of the blob. */
  readonly descriptor: Descriptor;
  /** What the config says of it. */
  readonly diffID: Digest;
}

/** A small image, ready to be pushed. */
export interface SmallImage {
  readonly manifest: Buffer;
  readonly config: Buffer;
  /** Compressed, from the base upwards. */
  readonly layers: readonly Buffer[];
  /** Of the layers, uncompressed. */
  readonly diffIDs: readonly Digest[];
}

/** What an image has beside its programs. */
export interface ImageOptions {
  /** Text files by absolute path, for the second layer. */
  readonly files?: Readonly<Record<string, string>>;
  /** Fields of the config's own `config`, such as Cmd. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** busybox goes by these names in the image. */
const applets = [
  "sh",
  "cat",
  "echo",
  "env",
  "id",
  "ls",
  "mkdir",
  "pwd",
  "rm",
  "sleep",
  "stat",
  "touch",
  "true",
  "false",
  "uname",
  "yes",
];

const busybox = "/bin/busybox";

/** An image of two layers: busybox with the names that it goes by, and some files on top. */
export async function createImage({ files = {}, config = {} }: ImageOptions = {}): Promise<SmallImage> {
  return assembleImage([await layerOf(await programs()), await layerOf(textFiles(files))], config);
}

/** A layer with `members`. */
export async function layerOf(members: readonly TarMember[]): Promise<ImageLayerContent> {
  const tar = Buffer.concat(await Array.fromAsync(writeTar(members)));
  const blob = gzipSync(tar, { level: 1 });
  return { blob, descriptor: describe(ociLayerGzip, blob), diffID: digestOf(tar) };
}

/** An image of `layers`, from the base upwards. */
export function assembleImage(
  layers: readonly ImageLayerContent[],
  config: Readonly<Record<string, unknown>> = {},
): SmallImage {
  const diffIDs = layers.map(({ diffID }) => diffID);
  const configBytes = Buffer.from(
    JSON.stringify({
      ...hostPlatform,
      config: { Env: ["PATH=/bin"], Cmd: ["sh"], WorkingDir: "/", ...config },
      rootfs: { type: "layers", diff_ids: diffIDs },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: ociManifest,
      config: describe(ociConfig, configBytes),
      layers: layers.map(({ descriptor }) => descriptor),
    }),
  );
  return { manifest, config: configBytes, layers: layers.map(({ blob }) => blob), diffIDs };
}

/** Pushes `image` under `tag`. */
export async function pushImage(
  repository: Repository,
  image: SmallImage,
  tag: string,
  signal?: AbortSignal,
): Promise<Descriptor> {
  for (const blob of [...image.layers, image.config]) {
    await repository.pushBlob({ digest: digestOf(blob), body: bytesBody(blob) }, signal);
  }
  return await repository.pushManifest({ mediaType: ociManifest, bytes: image.manifest, tag }, signal);
}

/** busybox and its names, and the directories that every image has. */
export async function programs(): Promise<TarMember[]> {
  const directories = ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"];
  return [
    ...directories.map((name): TarMember => ({ type: "directory", name })),
    { type: "file", name: "bin/busybox", mode: 0o755, content: await readBusybox() },
    ...applets.map((name): TarMember => ({ type: "symlink", name: `bin/${name}`, linkName: "busybox" })),
  ];
}

async function readBusybox(): Promise<Buffer> {
  try {
    return await readFile(busybox);
  } catch (cause) {
    const message = `missing peer: there is no ${busybox}, install the Debian package busybox-static`;
    throw new Error(message, { cause });
  }
}

function textFiles(files: Readonly<Record<string, string>>): TarMember[] {
  return Object.entries({ "/etc/image": "a small image\n", ...files }).map(([path, text]) => ({
    type: "file",
    name: path.slice(1),
    content: Buffer.from(text),
  }));
}

function describe(mediaType: string, bytes: Buffer): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
