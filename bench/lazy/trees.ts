import { join } from "node:path";
import { bigFile, bigFileBytes, contentsOf, type ListedFile } from "./image.ts";
import { dropCaches, type TreeReader } from "./reader.ts";
import type { Series, Who } from "./series.ts";
import type { RegistryWithImage } from "./start-up.ts";
import { type LazySubject, mountContainer, prepareLayers, type StartSubject } from "./subject.ts";
import { watchTraffic } from "./traffic.ts";

/** What is looked at in each tree, the same in all. */
export interface Reading {
  readonly paths: readonly string[];
  /** Read once from the registry. */
  readonly first: readonly string[];
  /** Read after that. */
  readonly small: readonly string[];
  /** Of the small ones together. */
  readonly smallBytes: number;
  readonly blocks: number;
}

const counts = { paths: 10_000, first: 300, small: 2000, blocks: 2000 } as const;
/** A small file has at most as many. */
const smallBytes = 64 * 1024;
const mebibyte = 1024 * 1024;

/** Chooses what to read of an image, at random and the same each time. */
export async function chooseReading({ layers }: RegistryWithImage): Promise<Reading> {
  const [base] = layers;
  if (base === undefined) {
    throw new Error("The image has no layers");
  }
  const { paths, files } = await contentsOf(base);
  const small = shuffled(files.filter(({ sizeBytes }: ListedFile) => sizeBytes <= smallBytes));
  const chosen = small.slice(0, counts.small);
  const names = chosen.map(({ path }) => path);
  return {
    paths: shuffled(paths).slice(0, counts.paths),
    first: names.slice(0, counts.first),
    small: names,
    smallBytes: chosen.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    blocks: counts.blocks,
  };
}

/** A tree that is being read. */
interface Tree {
  readonly who: Who;
  readonly path: string;
  /** Absent: the kernel alone shows it. */
  readonly server?: LazySubject;
  /** In bytes and requests, since it was asked last. */
  readonly traffic?: Awaited<ReturnType<typeof watchTraffic>>;
}

export interface TreesOptions {
  readonly starts: ReadonlyMap<Who, StartSubject>;
  readonly source: RegistryWithImage;
  readonly reading: Reading;
  readonly reader: TreeReader;
  /** Where the same files are, unpacked, as a container sees them. */
  readonly unpacked: string;
}

/**
 * One round: each subject mounts the image anew and is read in all ways, each way by one subject after the other.
 * Nothing is fetched that is not read, so that what is fetched can be counted.
 */
export async function readTrees(options: TreesOptions, series: Series): Promise<void> {
  const { starts, source, unpacked } = options;
  await using undo = new AsyncDisposableStack();
  const trees: Tree[] = [];
  for (const [who, start] of starts) {
    const server = undo.use(await start({ ahead: false }));
    const { registry, image, layers } = source;
    const traffic = await watchTraffic(
      registry,
      layers.map(({ descriptor }) => descriptor.digest),
    );
    const startedAt = performance.now();
    const name = await prepareLayers(server, image, layers);
    const mounted = undo.use(await mountContainer(server, name));
    series.add(who, "mount", performance.now() - startedAt);
    series.add(who, "requests", (await traffic()).requests / layers.length);
    trees.push({ who, path: mounted.path, server, traffic });
  }
  const round = new Round(options, series);
  for (const tree of trees) {
    await round.readFirst(tree);
  }
  trees.push({ who: "unpacked", path: unpacked });
  await round.readAgain(trees);
}

class Round {
  readonly #options: TreesOptions;
  readonly #series: Series;

  constructor(options: TreesOptions, series: Series) {
    this.#options = options;
    this.#series = series;
  }

  /** Reads what has not been fetched, and then the rest of what will be read again. */
  async readFirst({ who, path, server, traffic }: Tree): Promise<void> {
    const { reader, reading } = this.#options;
    await traffic?.();
    const before = await cpuOf(server);
    const { operations, bytes, meanMicroseconds } = await reader.read(path, reading.first);
    this.#series.add(who, "read first", meanMicroseconds);
    this.#series.add(who, "CPU of read first", ((await cpuOf(server)) - before) / operations);
    this.#series.add(who, "fetched for read", ((await traffic?.())?.bytes ?? 0) / bytes);
    requireBytes(who, (await reader.read(path, reading.small)).bytes, reading.smallBytes);
    await traffic?.();
    const big = await reader.read(path, [bigFile]);
    requireBytes(who, big.bytes, bigFileBytes);
    this.#series.add(who, "big first", big.bytes / mebibyte / big.seconds);
    this.#series.add(who, "fetched for big", ((await traffic?.())?.bytes ?? 0) / big.bytes);
  }

  /** Reads what has been fetched: with nothing in the kernel's caches, and then with all of it there. */
  async readAgain(trees: readonly Tree[]): Promise<void> {
    const { reader, reading } = this.#options;
    const add = (tree: Tree, what: string, value: number) => this.#series.add(tree.who, what, value);
    await this.#each(trees, "cold", async (tree) => add(tree, "find cold", await reader.find(tree.path)));
    await this.#each(trees, "warm", async (tree) => add(tree, "find warm", await reader.find(tree.path)));
    await this.#each(trees, "cold", async (tree) => {
      const before = await cpuOf(tree.server);
      const { operations, meanMicroseconds, p99Microseconds } = await reader.lstat(tree.path, reading.paths);
      add(tree, "lstat cold", meanMicroseconds);
      add(tree, "lstat cold p99", p99Microseconds);
      add(tree, "CPU of lstat", ((await cpuOf(tree.server)) - before) / operations);
    });
    await this.#each(trees, "cold", async (tree) => {
      const before = await cpuOf(tree.server);
      const { operations, meanMicroseconds } = await reader.read(tree.path, reading.small);
      add(tree, "read cold", meanMicroseconds);
      add(tree, "CPU of read cold", ((await cpuOf(tree.server)) - before) / operations);
    });
    // Read just now by each, and then a cache was dropped: once more, so that all of it is there.
    await this.#each(trees, "warm", async (tree) => void (await reader.read(tree.path, reading.small)));
    await this.#each(trees, "warm", async (tree) => {
      add(tree, "read warm", (await reader.read(tree.path, reading.small)).meanMicroseconds);
    });
    await this.#each(trees, "cold", async (tree) => {
      const { bytes, seconds } = await reader.read(tree.path, [bigFile]);
      add(tree, "big cold", bytes / mebibyte / seconds);
    });
    await this.#each(trees, "cold", async (tree) => {
      const before = await cpuOf(tree.server);
      const { operations, meanMicroseconds } = await reader.random(tree.path, bigFile, reading.blocks);
      add(tree, "random cold", meanMicroseconds);
      add(tree, "CPU of random cold", ((await cpuOf(tree.server)) - before) / operations);
    });
  }

  async #each(
    trees: readonly Tree[],
    caches: "cold" | "warm",
    look: (tree: Tree) => Promise<void>,
  ): Promise<void> {
    for (const tree of trees) {
      if (caches === "cold") {
        await dropCaches(join(this.#options.unpacked, ".."));
      }
      await look(tree);
    }
  }
}

/** @throws if what was read is not what is there: no figure of it is worth anything. */
function requireBytes(who: Who, read: number, want: number): void {
  if (read !== want) {
    throw new Error(`${who} has given ${read} bytes, want ${want}`);
  }
}

/** In microseconds. */
async function cpuOf(server: LazySubject | undefined): Promise<number> {
  return ((await server?.cpuSeconds()) ?? 0) * 1e6;
}

/** In an order that looks like none, and is the same each time (a multiplicative hash of the place). */
function shuffled<T>(values: readonly T[]): T[] {
  const ranked = values.map((value, index) => ({ value, rank: Math.imul(index + 1, 0x9e3779b1) >>> 0 }));
  return ranked.sort((a, b) => a.rank - b.rank).map(({ value }) => value);
}
