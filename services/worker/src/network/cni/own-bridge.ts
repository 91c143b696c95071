import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { inNetns } from "../detached-netns.ts";

const run = promisify(execFile);

/** The programs only ask the kernel. */
const timeoutMs = 10_000;

/**
 * The bridges that we had the plugin make, by a file that names one: they are the worker's to remove, those that were there
 * before are not.
 */
export class OwnBridge {
  readonly #path: string;
  readonly #netns: string | undefined;
  readonly #log: Logger;

  /**
   * @param directory holds the file.
   * @param netns where the network that has the bridge is mounted; undefined for our own.
   */
  constructor(directory: string, netns: string | undefined, log: Logger) {
    this.#path = join(directory, "bridge");
    this.#netns = netns;
    this.#log = log;
  }

  /** Says that `name` is going to be made for us, unless it is there. Removes another one that is ours. */
  async claim(name: string | undefined): Promise<void> {
    const earlier = await this.#read();
    if (earlier !== undefined && earlier !== name) {
      await this.remove();
    }
    if (name !== undefined && earlier !== name && !(await this.#deviceExists(name))) {
      await writeFile(this.#path, name, { mode: 0o600, flush: true });
    }
  }

  /** Removes the one that is ours, unless somebody else uses it by now. */
  async remove(): Promise<void> {
    const name = await this.#read();
    if (name === undefined) {
      return;
    }
    try {
      if (await this.#deviceExists(name)) {
        await this.#removeBridge(name);
      }
      await rm(this.#path, { force: true });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#log.warn({ bridge: name, reason }, "bridge stays");
    }
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFile(this.#path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }

  /** Asks the kernel about the network; /sys may show that of another name space. */
  async #deviceExists(name: string): Promise<boolean> {
    const devices = await this.#run("cat", ["/proc/self/net/dev"]);
    return devices.split("\n").some((line) => line.trimStart().startsWith(`${name}:`));
  }

  async #removeBridge(name: string): Promise<void> {
    const devices = await this.#run("ip", ["-oneline", "link", "show", "master", name]);
    if (devices.trim() !== "") {
      throw new FailedPreconditionError(`Cannot remove bridge ${name}: there are devices on it`);
    }
    await this.#run("ip", ["link", "delete", "dev", name, "type", "bridge"]);
  }

  async #run(program: string, args: readonly string[]): Promise<string> {
    const { stdout } = await run(...inNetns(this.#netns, program, args), { timeout: timeoutMs });
    return stdout;
  }
}
