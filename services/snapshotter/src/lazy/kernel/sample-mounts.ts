import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { imageOf } from "@oci-worker/erofs/image";
import type { Directory } from "@oci-worker/erofs/node";
import { treeOf } from "@oci-worker/erofs/tree-of";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { digestOf } from "@oci-worker/oci/digest";
import { planLayer } from "../plan/layer-plan.ts";
import { sampleData, sampleLayer } from "../sample-layer.ts";
import { adoptHeldMounts, dropHeldMount } from "./held-mount.ts";
import type { LayerToMount, MountMode, PassedOver } from "./layer-mounter.ts";
import type { SampleCommand, SampleProgramOptions } from "./sample-program.ts";

/** A layer on disk, complete, that is served all the same. */
export interface LayerOnDisk extends LayerToMount {
  /** The files that it shows. */
  readonly root: Directory;
  readonly data: Buffer;
}

export async function layerOnDisk(
  directory: string,
  number: number,
  members: readonly TarMember[],
): Promise<LayerOnDisk> {
  const layer = await sampleLayer(members);
  const plan = planLayer(layer.tree, { xattrNamespace: "trusted" });
  const data = sampleData(plan, layer);
  const [metaPath, dataPath] = [join(directory, `${number}.erofs`), join(directory, `${number}.data`)];
  const image = imageOf(plan.files, { dataBlocks: plan.dataBlocks, uuid: randomBytes(16) });
  await writeFile(metaPath, image);
  await writeFile(dataPath, data);
  const metaDigest = digestOf(image);
  return {
    number,
    metaPath,
    metaDigest,
    dataPath,
    dataBlocks: plan.dataBlocks,
    isComplete: false,
    root: treeOf(plan.files),
    data,
  };
}

/** What the program has opened. */
export interface Opened {
  readonly mode: MountMode;
  readonly passedOver: readonly PassedOver[];
  readonly adopted: boolean;
}

/** What the program says in a line. */
type Said = Readonly<Record<string, unknown>>;

/** Another process with a layer mounter: see `sample-program.ts`. */
class Program {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  /** What it has said that nobody has waited for yet. */
  #unheard: Said[] = [];
  #waiting: { readonly isWanted: (said: Said) => boolean; readonly resolve: (said: Said) => void }[] = [];

  private constructor(options: SampleProgramOptions, prefix: readonly string[]) {
    const program = join(import.meta.dirname, "sample-program.ts");
    const [command = "", ...argv] = [...prefix, process.execPath, program, JSON.stringify(options)];
    this.#child = spawn(command, argv, { stdio: ["pipe", "pipe", "inherit"] });
    this.#exited = once(this.#child, "exit");
    assert(this.#child.stdout);
    createInterface(this.#child.stdout).on("line", (line) => this.#hear(JSON.parse(line)));
  }

  /** @throws what the mounter throws. */
  static async start(
    options: SampleProgramOptions,
    prefix: readonly string[],
  ): Promise<Program & { readonly opened: Opened }> {
    const program = new Program(options, prefix);
    const said = await program.#until((each) => "mode" in each || "failed" in each);
    if ("failed" in said) {
      await program.#exited;
      throw new Error(String(said["failed"]));
    }
    return Object.assign(program, { opened: said as unknown as Opened });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async mount(layer: LayerToMount, at: string): Promise<void> {
    await mkdir(at, { recursive: true });
    await this.#tell({ mount: plain(layer), at });
  }

  async useFile(layer: LayerToMount, at: string): Promise<void> {
    await this.#tell({ useFile: plain(layer), at });
  }

  async unmount(at: string): Promise<void> {
    await this.#tell({ unmount: true, at });
  }

  /** Waits until it has been asked for content. */
  async untilRead(): Promise<void> {
    await this.#until((said) => "read" in said);
  }

  /** Waits until it has been asked for so much content since it was started. @returns in how many requests. */
  async requestsFor(sizeBytes: number): Promise<number> {
    let requests = 0;
    for (let left = sizeBytes; left > 0; requests += 1) {
      left -= Number((await this.#until((said) => "read" in said))["read"]);
    }
    return requests;
  }

  async stop(): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify({ stop: true } satisfies SampleCommand)}\n`);
    await this.#exited;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async #tell(command: SampleCommand & { readonly at: string }): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const said = await this.#until((each) => each["at"] === command.at);
    if ("failed" in said) {
      throw new Error(String(said["failed"]));
    }
  }

  #hear(said: Said): void {
    const waiting = this.#waiting.find(({ isWanted }) => isWanted(said));
    this.#waiting = this.#waiting.filter((each) => each !== waiting);
    if (waiting === undefined) {
      this.#unheard.push(said);
    } else {
      waiting.resolve(said);
    }
  }

  async #until(isWanted: (said: Said) => boolean): Promise<Said> {
    const known = this.#unheard.find(isWanted);
    if (known !== undefined) {
      this.#unheard = this.#unheard.filter((said) => said !== known);
      return known;
    }
    const { promise, resolve } = Promise.withResolvers<Said>();
    this.#waiting.push({ isWanted, resolve });
    return promise;
  }
}

function plain({
  number,
  metaPath,
  metaDigest,
  dataPath,
  dataBlocks,
  isComplete,
}: LayerToMount): LayerToMount {
  return { number, metaPath, metaDigest, dataPath, dataBlocks, isComplete };
}

/** A directory for layers and mounts, and for the programs that serve them. Disposing ends and unmounts all. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
  readonly directory: string;
  /** @param prefix a program that starts it, with arguments. */
  start(
    options: Pick<SampleProgramOptions, "mode" | "layers"> &
      Partial<Pick<SampleProgramOptions, "isMute" | "directory">>,
    ...prefix: string[]
  ): ReturnType<typeof Program.start>;
}

export async function openScratch(): Promise<Scratch> {
  const path = await mkdtemp(join(tmpdir(), "lazy-"));
  const directory = join(path, "lazy");
  const programs: Program[] = [];
  return {
    path,
    directory,
    start: async (options, ...prefix) => {
      const layers = options.layers.map(plain);
      const program = await Program.start({ directory, isMute: false, ...options, layers }, prefix);
      programs.push(program);
      return program;
    },
    [Symbol.asyncDispose]: async () => {
      for (const program of programs) {
        await program.kill();
      }
      // What is mounted on them goes first: it would be waited for.
      await unmountBeneath(path);
      for (const mount of await adoptHeldMounts(directory)) {
        await dropHeldMount(directory, mount);
      }
      await rm(path, { recursive: true, force: true });
    },
  };
}
