import { ServiceError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { type Device, Devices } from "./devices.ts";
import type { DeviceSpec } from "./parse-spec.ts";
import { readSpecFiles, type SpecFile } from "./spec-files.ts";

export interface RegistryOptions {
  /** Where specifications are; of two with the same device the later directory's holds. */
  readonly directories: readonly string[];
  /** Devices, by their names or kinds, that builds get without asking their user. */
  readonly autoAllowed: readonly string[];
  readonly log: Logger;
}

/** By which a device says that builds get it without asking their user. Upstream's. */
const autoAllowAnnotation = "org.mobyproject.buildkit.device.autoallow";

/** As Go reads a truth (strconv.ParseBool). */
const yes = /^(1|t|T|TRUE|true|True)$/;

/** A file as it was read last. */
interface ReadFile {
  readonly content: Buffer;
  readonly spec: DeviceSpec | Error;
}

/**
 * The devices of this machine, by the files of the CDI specification.
 *
 * These are small, and rarely asked for: they are read whenever somebody asks, so that what an operator changes holds at
 * once, and parsed only if they have changed. A file that is wrong, and devices that are in two files of one directory,
 * are told of once and count for nothing; all others stay as they are.
 */
export class DeviceRegistry {
  readonly #options: RegistryOptions;
  #files: ReadonlyMap<string, ReadFile> = new Map();
  #told: ReadonlySet<string> = new Set();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** The devices that there are now. */
  async read(): Promise<Devices> {
    const files = new Map<string, ReadFile>();
    const problems: Problem[] = [];
    const devices = new Map<string, Device>();
    for (const directory of this.#options.directories) {
      const specs: FoundSpec[] = [];
      for (const file of await this.#filesOf(directory, problems)) {
        const read = await this.#parsed(file);
        files.set(file.path, read);
        if (read.spec instanceof Error) {
          problems.push({ path: file.path, problem: read.spec.message });
        } else {
          specs.push({ path: file.path, spec: read.spec });
        }
      }
      this.#add(specs, devices, problems);
    }
    this.#files = files;
    this.#tell(problems);
    return new Devices(devices.values());
  }

  async #filesOf(directory: string, problems: Problem[]): Promise<readonly SpecFile[]> {
    try {
      return await readSpecFiles(directory);
    } catch (error) {
      problems.push({ path: directory, problem: textOf(error) });
      return [];
    }
  }

  async #parsed({ path, content }: SpecFile): Promise<ReadFile> {
    if (content instanceof Error) {
      return { content: Buffer.alloc(0), spec: content };
    }
    const before = this.#files.get(path);
    return before?.content.equals(content) === true ? before : { content, spec: await specOf(content) };
  }

  /** Adds the devices of one directory to those of the ones before it, which it is stronger than. */
  #add(specs: readonly FoundSpec[], devices: Map<string, Device>, problems: Problem[]): void {
    const paths = new Map<string, string[]>();
    for (const { path, spec } of specs) {
      for (const device of spec.devices) {
        const name = `${spec.kind}=${device.name}`;
        const others = paths.get(name) ?? [];
        paths.set(name, [...others, path]);
        const annotations = { ...spec.annotations, ...device.annotations };
        devices.set(name, {
          name,
          spec,
          annotations,
          isAutoAllowed: this.#isAutoAllowed(spec.kind, name, annotations),
          edits: device.edits,
        });
      }
    }
    for (const [name, where] of paths) {
      if (where.length > 1) {
        devices.delete(name);
        problems.push({
          path: where.join(" and "),
          problem: `conflicting device ${JSON.stringify(name)}, want it in one file of a directory`,
        });
      }
    }
  }

  #isAutoAllowed(kind: string, name: string, annotations: Readonly<Record<string, string>>): boolean {
    const { autoAllowed } = this.#options;
    return (
      autoAllowed.includes(name) ||
      autoAllowed.includes(kind) ||
      yes.test(annotations[autoAllowAnnotation] ?? "")
    );
  }

  #tell(problems: readonly Problem[]): void {
    const told = new Set<string>();
    for (const { path, problem } of problems) {
      const text = `${path}: ${problem}`;
      if (!this.#told.has(text)) {
        this.#options.log.warn({ path, problem }, "CDI specification passed over");
      }
      told.add(text);
    }
    this.#told = told;
  }
}

interface FoundSpec {
  readonly path: string;
  readonly spec: DeviceSpec;
}

interface Problem {
  readonly path: string;
  readonly problem: string;
}

async function specOf(content: Buffer): Promise<DeviceSpec | Error> {
  // Most machines have no specification, and a reader of YAML takes its time to load.
  const { parseSpec } = await import("./parse-spec.ts");
  try {
    return parseSpec(content.toString("utf8"));
  } catch (error) {
    if (error instanceof ServiceError) {
      return error;
    }
    throw error;
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
