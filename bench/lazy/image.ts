import { createReadStream } from "node:fs";
import { mkdir, open, readFile, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type BuiltLayer, buildLayer } from "@oci-worker/estargz/build";
import { blobInMemory, openLayer } from "@oci-worker/estargz/open";
import { walk } from "@oci-worker/estargz/tree";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import type { ImageLayerContent } from "../../e2e/peers/image.ts";
import { debianLayer } from "../debian-layer.ts";

/** Name of the file of {@link lazyLayers} that is read in order and at random. */
export const bigFile = "srv/big";

export const bigFileBytes = 256 * 1024 * 1024;

/** What is read of a layer piece by piece. */
interface Source {
  readonly pieces: () => AsyncIterable<Buffer>;
  readonly sizeBytes: number;
}

/**
 * The layers of an image that can be read in parts: a Debian root file system, and above it one large file.
 *
 * They are built once and kept for the next time, beside the layer that they are made of.
 */
export async function lazyLayers(): Promise<ImageLayerContent[]> {
  const { blobPath, sizeBytes } = await debianLayer();
  const directory = dirname(blobPath);
  // Half of it is programs, as in what people put into images.
  const content = await firstBytes(blobPath.replace(/\.gz$/, ""), bigFileBytes);
  const big: TarMember[] = [
    { type: "directory", name: dirname(bigFile) },
    { type: "file", name: bigFile, content },
  ];
  return [
    await builtOnce(join(directory, "debian.esgz"), {
      pieces: () => createReadStream(blobPath),
      sizeBytes,
    }),
    await builtOnce(join(directory, "big.esgz"), await sourceOf(big)),
  ];
}

/** As many small layers, each with files of its own. */
export async function smallLayers(count: number): Promise<ImageLayerContent[]> {
  const layers: ImageLayerContent[] = [];
  for (let number = 0; number < count; number += 1) {
    const files = Array.from(
      { length: filesPerSmallLayer },
      (_, file): TarMember => ({
        type: "file",
        name: `srv/${number}/${file}`,
        content: Buffer.alloc(1000, `file ${file} of layer ${number}\n`),
      }),
    );
    const written: Buffer[] = [];
    const { pieces, sizeBytes } = await sourceOf(files);
    const built = await buildLayer({ pieces: pieces(), sizeBytes }, async (bytes) => written.push(bytes));
    layers.push(contentOf(built, Buffer.concat(written)));
  }
  return layers;
}

const filesPerSmallLayer = 200;

/** A file of an image, by what its TOC says. */
export interface ListedFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** The paths of all entries of a layer, and its regular files without those that have several names. */
export async function contentsOf({
  blob,
}: ImageLayerContent): Promise<{ paths: string[]; files: ListedFile[] }> {
  const layer = await openLayer(blobInMemory(blob), { trusted: undefined });
  if (layer === undefined) {
    throw new Error("The layer has no TOC");
  }
  const entries = [...walk(layer.tree)].filter(({ path }) => path !== "");
  return {
    paths: entries.map(({ path }) => path),
    files: entries.flatMap(({ path, node }) =>
      node.type === "file" && node.sizeBytes > 0 ? [{ path, sizeBytes: node.sizeBytes }] : [],
    ),
  };
}

async function builtOnce(path: string, source: Source): Promise<ImageLayerContent> {
  const notes = `${path}.json`;
  if ((await stat(notes).catch(() => undefined)) === undefined) {
    process.stderr.write(`building ${path}\n`);
    await mkdir(dirname(path), { recursive: true });
    await using file = await open(path, "w");
    const built = await buildLayer({ pieces: source.pieces(), sizeBytes: source.sizeBytes }, (bytes) =>
      file.writeFile(bytes),
    );
    await writeFile(`${notes}.new`, JSON.stringify(built));
    await rename(`${notes}.new`, notes);
  }
  return contentOf(JSON.parse(await readFile(notes, "utf8")) as BuiltLayer, await readFile(path));
}

function contentOf(built: BuiltLayer, blob: Buffer): ImageLayerContent {
  const { mediaType, digest, sizeBytes, annotations, diffID } = built;
  return { blob, descriptor: { mediaType, digest, size: sizeBytes, annotations }, diffID };
}

async function sourceOf(members: readonly TarMember[]): Promise<Source> {
  const archive = Buffer.concat(await Array.fromAsync(writeTar(members)));
  return {
    pieces: async function* () {
      yield archive;
    },
    sizeBytes: archive.length,
  };
}

async function firstBytes(path: string, count: number): Promise<Buffer> {
  await using file = await open(path);
  const bytes = Buffer.alloc(count);
  await file.read(bytes, 0, count, 0);
  return bytes;
}
