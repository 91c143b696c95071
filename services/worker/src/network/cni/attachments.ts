import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CniNetwork } from "./chain.ts";
import type { CniResult } from "./result.ts";

/** One device of a container in one network. */
export interface Attachment {
  readonly network: CniNetwork;
  readonly ifname: string;
  /** What ADD has answered; absent until it has. */
  readonly result?: CniResult;
}

/** All that is needed to detach a container again, also by another process and under another configuration. */
export interface AttachmentRecord {
  readonly pluginDirectories: readonly string[];
  readonly args: string;
  /** In the order in which they were, or will be, attached. */
  readonly attachments: readonly Attachment[];
}

/**
 * What containers are attached to, one file each, written before anything is done: what a plugin has set up outside of the
 * name space, such as an address that it has given away, ends only by its own DEL.
 */
export class AttachmentRecords {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<AttachmentRecords> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new AttachmentRecords(directory);
  }

  /** Writes all of it or nothing, for good. */
  async write(id: string, record: AttachmentRecord): Promise<void> {
    const path = this.#path(id);
    await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600, flush: true });
    await rename(`${path}.new`, path);
  }

  /** Undefined if there is none, or none that can be read. */
  async read(id: string): Promise<AttachmentRecord | undefined> {
    try {
      return JSON.parse(await readFile(this.#path(id), "utf8")) as AttachmentRecord;
    } catch (error) {
      if (
        error instanceof SyntaxError ||
        (error instanceof Error && "code" in error && error.code === "ENOENT")
      ) {
        return undefined;
      }
      throw error;
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
  }

  /** The ids of all that are there. What was half written is removed. */
  async list(): Promise<string[]> {
    const ids: string[] = [];
    for (const name of await readdir(this.#directory)) {
      if (name.endsWith(".json")) {
        ids.push(name.slice(0, -".json".length));
      } else {
        await rm(join(this.#directory, name), { force: true });
      }
    }
    return ids;
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}
