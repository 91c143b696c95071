import { readdir, readFile } from "node:fs/promises";
import { hostPlatform, type Platform, parsePlatform } from "@oci-worker/oci/platform";
import type { Logger } from "pino";
import { amd64Level } from "./amd64-level.ts";
import type { ProbedArchitecture } from "./probe-program.ts";
import { obstacleTo } from "./run-probe.ts";

/** Where the kernel tells of emulators, one file each. */
const emulatorDirectory = "/proc/sys/fs/binfmt_misc";

/** What is probed besides the machine's own, in the order in which clients are told; each with what it stands for. */
const others: readonly (readonly [ProbedArchitecture, readonly string[]])[] = [
  ["amd64", ["linux/amd64"]],
  ["arm64", ["linux/arm64"]],
  ["riscv64", ["linux/riscv64"]],
  ["loong64", ["linux/loong64"]],
  ["ppc64", ["linux/ppc64"]],
  ["ppc64le", ["linux/ppc64le"]],
  ["s390x", ["linux/s390x"]],
  ["386", ["linux/386"]],
  ["mips64le", ["linux/mips64le"]],
  ["mips64", ["linux/mips64"]],
  ["arm", ["linux/arm/v7", "linux/arm/v6"]],
];

/** The platforms whose programs run on this machine, its own one first. */
export class HostPlatforms {
  readonly #directory: string;
  readonly #maxAgeMs: number;
  readonly #log: Logger;
  #known: Promise<readonly Platform[]> | undefined;
  #emulators: string | undefined;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  /**
   * @param directory for programs that are tried; it is made and removed as needed.
   * @param maxAgeMs how long it is not looked again what emulators there are.
   */
  constructor(directory: string, maxAgeMs: number, log: Logger) {
    this.#directory = directory;
    this.#maxAgeMs = maxAgeMs;
    this.#log = log;
  }

  /** What runs now. Programs are tried only if emulators have come or gone since it was looked the last time. */
  async list(): Promise<readonly Platform[]> {
    const nowMs = performance.now();
    if (this.#known === undefined || nowMs - this.#lookedAtMs >= this.#maxAgeMs) {
      this.#lookedAtMs = nowMs;
      const emulators = await registeredEmulators();
      if (this.#known === undefined || emulators !== this.#emulators) {
        this.#emulators = emulators;
        this.#known = this.#probe();
      }
    }
    return await this.#known;
  }

  async #probe(): Promise<readonly Platform[]> {
    const obstacles: Record<string, string> = {};
    const found = await Promise.all(
      others.map(async ([architecture, names]) => {
        if (architecture === hostPlatform.architecture) {
          return [];
        }
        const obstacle = await obstacleTo(architecture, this.#directory);
        if (obstacle !== undefined) {
          obstacles[architecture] = obstacle;
        }
        return obstacle === undefined ? names : [];
      }),
    );
    const platforms = [hostPlatform, ...(await ownVariants()), ...found.flat().map(parsePlatform)];
    this.#log.debug({ platforms, obstacles }, "platforms have been tried");
    return platforms;
  }
}

/** What the machine's own processor can besides the least of its kind. */
async function ownVariants(): Promise<Platform[]> {
  if (hostPlatform.architecture === "arm" && hostPlatform.variant === "v7") {
    return [parsePlatform("linux/arm/v6")];
  }
  if (hostPlatform.architecture !== "amd64") {
    return [];
  }
  const level = amd64Level(await readFile("/proc/cpuinfo", "utf8"));
  return Array.from({ length: level - 1 }, (_, index) => parsePlatform(`linux/amd64/v${index + 2}`));
}

/** Everything that the kernel tells of emulators, as a text that is another one when something has changed. */
async function registeredEmulators(): Promise<string> {
  const names = (await readdir(emulatorDirectory).catch(() => [])).filter((name) => name !== "register");
  const texts = await Promise.all(
    // One may be taken away while we look.
    names.map((name) => readFile(`${emulatorDirectory}/${name}`, "utf8").catch(() => "")),
  );
  return names.map((name, index) => `${name}\n${texts[index]}`).join("\n");
}
