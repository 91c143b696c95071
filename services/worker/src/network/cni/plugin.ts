import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import {
  DeadlineExceededError,
  FailedPreconditionError,
  ResourceExhaustedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { inNetns } from "../detached-netns.ts";

/** What a plugin is asked to do (SPEC.md, section 2). */
export type CniCommand = "ADD" | "CHECK" | "DEL" | "VERSION";

/** The container that a plugin is called for. */
export interface CniTarget {
  readonly containerID: string;
  /** Path of the name space; empty if it is gone already, which DEL can do without. */
  readonly netns: string;
  /** Name of the device inside. */
  readonly ifname: string;
  /** `NAME=VALUE`, separated by semicolons. */
  readonly args: string;
}

export interface PluginOptions {
  /** Where the programs are looked for, in order. */
  readonly directories: readonly string[];
  /** A plugin that takes longer is killed, with whatever it has started. */
  readonly timeoutMs: number;
  /** A descriptor that a plugin holds as long as it runs. */
  readonly lockFd: number;
  /** Where the network that plugins work on is mounted; undefined for that of this process. */
  readonly netns: string | undefined;
}

/** A plugin that says more than this is broken. */
const maxOutputBytes = 1 << 20;

/** What the error of a plugin that ends without one in JSON may quote of its words. */
const maxQuotedLength = 500;

/**
 * The plugins of CNI: programs that are told what to do in their environment and on standard input, and answer on
 * standard output.
 */
export class CniPlugins {
  readonly #options: PluginOptions;

  constructor(options: PluginOptions) {
    this.#options = options;
  }

  get directories(): readonly string[] {
    return this.#options.directories;
  }

  /**
   * Calls the plugin `type`.
   *
   * @param config goes to its standard input.
   * @returns what it answers, unread; empty if it has nothing to say.
   * @throws {FailedPreconditionError} if there is no such program.
   * @throws {DeadlineExceededError} if it does not end in time.
   * @throws {UnavailableError} with its own words, if it fails.
   */
  async call(
    type: string,
    command: CniCommand,
    config: object,
    target: CniTarget | undefined,
  ): Promise<string> {
    const program = await this.#find(type);
    const what = `plugin type=${JSON.stringify(type)} failed (${command.toLowerCase()})`;
    const child = spawn(...inNetns(this.#options.netns, program, []), {
      stdio: ["pipe", "pipe", "pipe", this.#options.lockFd],
      cwd: "/",
      // A process group of its own, so that what it has started can be killed with it.
      detached: true,
      env: { ...process.env, ...this.#environment(command, target) },
    }) as ChildProcessWithoutNullStreams;
    const limit = setTimeout(() => killGroup(child), this.#options.timeoutMs);
    // A plugin may end without having read what it was told.
    child.stdin.on("error", () => undefined);
    child.stdin.end(JSON.stringify(config));
    const output = collect(child, child.stdout);
    const complaints = collect(child, child.stderr);
    try {
      const [code, signal] = (await once(child, "close")) as [number | null, string | null];
      if (signal === "SIGKILL" && (output.isFull() || complaints.isFull())) {
        throw new ResourceExhaustedError(`${what}: it wrote more than ${maxOutputBytes} bytes`);
      }
      if (signal === "SIGKILL") {
        throw new DeadlineExceededError(`${what}: it has not ended within ${this.#options.timeoutMs} ms`);
      }
      if (code !== 0) {
        throw new UnavailableError(`${what}: ${failureIn(output.text(), complaints.text(), code ?? signal)}`);
      }
      return output.text();
    } finally {
      clearTimeout(limit);
    }
  }

  async #find(type: string): Promise<string> {
    const { directories } = this.#options;
    const path = await placeOf(type, directories);
    if (path === undefined) {
      throw new FailedPreconditionError(
        `failed to find plugin ${JSON.stringify(type)} in path [${directories.join(" ")}]`,
      );
    }
    return path;
  }

  #environment(command: CniCommand, target: CniTarget | undefined): NodeJS.ProcessEnv {
    return {
      CNI_COMMAND: command,
      CNI_PATH: this.#options.directories.join(":"),
      CNI_CONTAINERID: target?.containerID ?? "",
      CNI_NETNS: target?.netns ?? "",
      CNI_IFNAME: target?.ifname ?? "",
      CNI_ARGS: target?.args ?? "",
      NOTIFY_SOCKET: undefined,
    };
  }
}

/** Path of the program `name` in the first of `directories` that has it; undefined if none has. */
export async function placeOf(name: string, directories: readonly string[]): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // The next directory may have it.
    }
  }
  return undefined;
}

function collect(child: ChildProcess, stream: NodeJS.ReadableStream) {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxOutputBytes) {
      killGroup(child);
    } else {
      chunks.push(chunk);
    }
  });
  return { text: () => Buffer.concat(chunks).toString(), isFull: () => bytes > maxOutputBytes };
}

function killGroup(child: ChildProcess): void {
  try {
    process.kill(-(child.pid ?? Number.NaN), "SIGKILL");
  } catch {
    // It has just ended.
  }
}

/** The error object that a plugin prints (SPEC.md, section 5, "Error"); else whatever it said. */
function failureIn(output: string, complaints: string, ending: number | string | null): string {
  try {
    const error: unknown = JSON.parse(output);
    if (typeof error === "object" && error !== null && "msg" in error) {
      const details = "details" in error && error.details ? `; ${error.details}` : "";
      const code = "code" in error ? ` (code ${error.code})` : "";
      return `${error.msg}${details}${code}`;
    }
  } catch {
    // No error object.
  }
  const said = (complaints.trim() || output.trim()).slice(0, maxQuotedLength);
  return `it ended with ${ending}${said && `: ${said}`}`;
}
