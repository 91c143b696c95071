import { randomUUID } from "node:crypto";
import {
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { imageOf } from "@oci-worker/erofs/image";
import { ErofsImage } from "@oci-worker/erofs/read-image";
import { type Digest, digestOf, hexOf } from "@oci-worker/oci/digest";
import { decodeContent, encodeContent, type LayerContent } from "../data/layer-chunks.ts";
import type { LayerPlan } from "../plan/layer-plan.ts";
import { directoryName, type LayerInfo, parseInfo } from "./layer-info.ts";

/** A layer on disk. */
export interface StoredLayer {
  readonly directory: string;
  readonly info: LayerInfo;
  readonly content: LayerContent;
}

/** A directory that is no layer any more. If it is opened again it is made anew, with what data is good. */
export interface BrokenLayer {
  readonly directory: string;
  readonly reason: string;
}

/** What a layer is made of. */
export interface NewLayer
  extends Pick<LayerInfo, "digest" | "tocDigest" | "trusted" | "reference" | "labels" | "blobBytes"> {
  readonly plan: LayerPlan;
  readonly compression: LayerContent["compression"];
}

/** Files of a layer's directory. */
const names = { info: "info.json", meta: "meta.erofs", chunks: "chunks" } as const;

/** Before a name: it is not finished, and swept at the next start. */
const unfinished = ".new-";

/** The number that the next layer gets. */
const nextNumberName = "next-number";

/**
 * The layers on disk. Each has a directory with all that is needed to show it without any registry. A directory comes into
 * being whole, by a rename, and its files are replaced by renames; what they say of each other is checked when it is read.
 *
 * File calls block, for a thread of its own.
 */
export class LayerStore {
  readonly broken: BrokenLayer[] = [];
  readonly #root: string;
  readonly #layers: string;
  #nextNumber: number;

  /** @param root made if it is absent. The caller holds its lock. */
  constructor(root: string) {
    this.#root = root;
    this.#layers = join(root, "layers");
    mkdirSync(this.#layers, { recursive: true, mode: 0o700 });
    for (const name of [
      ...readdirSync(root),
      ...readdirSync(this.#layers).map((each) => join("layers", each)),
    ]) {
      if (name.includes(unfinished)) {
        rmSync(join(root, name), { recursive: true, force: true });
      }
    }
    this.#nextNumber = numberIn(readIfThere(join(root, nextNumberName)));
  }

  /** Every layer that is whole. Those that are not are in {@link broken}. */
  load(): StoredLayer[] {
    const loaded = readdirSync(this.#layers).flatMap((name) => {
      const directory = join(this.#layers, name);
      try {
        const info = parseInfo(readFileSync(join(directory, names.info), "utf8"));
        const content = decodeContent(readFileSync(join(directory, names.chunks)));
        if (directoryName(info) !== name || content.number !== info.number) {
          throw new Error("its files belong to another layer");
        }
        return [{ directory, info, content }];
      } catch (error) {
        this.broken.push({ directory, reason: error instanceof Error ? error.message : String(error) });
        return [];
      }
    });
    this.#nextNumber = Math.max(this.#nextNumber, ...loaded.map(({ info }) => info.number + 1));
    return loaded;
  }

  /** Whether the image of `layer` is the one that was written. */
  hasImage({ directory, info }: StoredLayer): boolean {
    try {
      return digestOf(readFileSync(join(directory, names.meta))) === info.metaDigest;
    } catch {
      return false;
    }
  }

  /** Makes a layer, or makes it anew where its directory is broken: its data stays, and its number if it can be found. */
  async create({ plan, compression, ...told }: NewLayer): Promise<StoredLayer> {
    const directory = join(this.#layers, directoryName(told));
    const number = numberOf(directory) ?? this.#takeNumber();
    const { dataBlocks, chunks, prefetchBytes } = plan;
    const content = { number, dataBlocks, compression, prefetchBytes, chunks };
    const made = join(this.#layers, `${unfinished}${randomUUID()}`);
    mkdirSync(made, { mode: 0o700 });
    try {
      const metaDigest = writePlan(join(made, names.meta), plan, told.tocDigest);
      const info: LayerInfo = { version: 1, number, ...told, metaDigest, isDevice: false };
      writeFileSync(join(made, names.chunks), encodeContent(content), { mode: 0o600 });
      writeFileSync(join(made, names.info), infoText(info), { mode: 0o600 });
      await Promise.all(Object.values(names).map((name) => sync(join(made, name))));
      this.#publish(made, directory);
      await sync(this.#layers);
      return { directory, info, content };
    } finally {
      rmSync(made, { recursive: true, force: true });
    }
  }

  /** Replaces what is kept of `layer`. */
  async update(
    layer: StoredLayer,
    change: Partial<Pick<LayerInfo, "isDevice" | "labels">>,
  ): Promise<StoredLayer> {
    const info = { ...layer.info, ...change };
    const temporary = join(layer.directory, `${unfinished}${randomUUID()}`);
    writeFileSync(temporary, infoText(info), { mode: 0o600 });
    await sync(temporary);
    renameSync(temporary, join(layer.directory, names.info));
    return { ...layer, info };
  }

  remove({ directory }: StoredLayer): void {
    const gone = join(this.#layers, `${unfinished}${randomUUID()}`);
    renameSync(directory, gone);
    rmSync(gone, { recursive: true, force: true });
  }

  /** The path of the file that has its content at that byte of the device, for each. */
  pathsOf({ directory }: StoredLayer): ReadonlyMap<number, string> {
    const image = readIfThere(join(directory, names.meta));
    return image === undefined ? new Map() : pathsIn(new ErofsImage(image));
  }

  metaPath({ directory }: StoredLayer): string {
    return join(directory, names.meta);
  }

  /** Moves what is in `made` to where it is looked for. */
  #publish(made: string, directory: string): void {
    if (!existsSync(directory)) {
      renameSync(made, directory);
      return;
    }
    // What says that it is whole comes last.
    for (const name of [names.meta, names.chunks, names.info]) {
      renameSync(join(made, name), join(directory, name));
    }
  }

  #takeNumber(): number {
    const number = this.#nextNumber;
    // Before it is used, else it may be used again, and the kernel remembers what it was told of it. Until it is started
    // anew: so this need not outlast a power cut.
    const temporary = join(this.#root, `${unfinished}${randomUUID()}`);
    writeFileSync(temporary, String(number + 1), { mode: 0o600 });
    renameSync(temporary, join(this.#root, nextNumberName));
    this.#nextNumber = number + 1;
    return number;
  }
}

function numberIn(bytes: Buffer | undefined): number {
  const text = bytes?.toString("latin1") ?? "";
  return /^\d{1,15}$/.test(text) ? Math.max(1, Number(text)) : 1;
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Where the content of each file begins, with one of its paths. */
function pathsIn(image: ErofsImage): ReadonlyMap<number, string> {
  const paths = new Map<number, string>();
  const pending = [{ path: "", directory: image.rootInode }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, directory } = next;
    for (const { inode: number, name } of image.list(directory) ?? []) {
      const text = name.toString();
      const inode = text === "." || text === ".." ? undefined : image.inode(number);
      const child = path === "" ? text : `${path}/${text}`;
      const type = (inode?.mode ?? 0) & typeMask;
      if (type === constants.S_IFDIR) {
        pending.push({ path: child, directory: number });
      } else if (inode !== undefined && type === constants.S_IFREG && inode.sizeBytes > 0) {
        paths.set(image.dataOffset(inode), child);
      }
    }
  }
  return paths;
}

const typeMask = constants.S_IFMT;

/** The number that a broken layer had: whoever has it mounted still asks for it by that. */
function numberOf(directory: string): number | undefined {
  for (const read of [
    () => parseInfo(readFileSync(join(directory, names.info), "utf8")).number,
    () => decodeContent(readFileSync(join(directory, names.chunks))).number,
  ]) {
    try {
      return read();
    } catch {
      // The other may be good.
    }
  }
  return undefined;
}

function infoText(info: LayerInfo): string {
  return JSON.stringify(info, undefined, 1);
}

/** Writes the image of `plan`. @returns its digest. */
function writePlan(path: string, { files, dataBlocks }: LayerPlan, tocDigest: Digest): Digest {
  const uuid = Buffer.from(hexOf(tocDigest), "hex").subarray(0, 16);
  const image = imageOf(files, { dataBlocks, uuid });
  writeFileSync(path, image, { flag: "wx", mode: 0o600 });
  return digestOf(image);
}

/** Waits until a file, or what a directory has, is on the disk. */
async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}
