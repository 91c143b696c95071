import { mkdir } from "node:fs/promises";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { contextOption } from "./selinux/label-files.ts";

/** The sum of what a step may be given in memory; a secret has 500 KiB at most. */
const maxBytes = 64 * 1024 * 1024;

/** A directory that is on no disk, made when it is first asked for. Disposing takes it away with all that is in it. */
export class MemoryDirectory implements AsyncDisposable {
  readonly #path: string;
  readonly #label: string | undefined;
  #made: Promise<void> | undefined;

  /** @param label of SELinux, for all that is in it. */
  constructor(path: string, label?: string) {
    this.#path = path;
    this.#label = label;
  }

  async path(): Promise<string> {
    this.#made ??= this.#make();
    await this.#made;
    return this.#path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#made !== undefined) {
      await unmount(this.#path);
    }
  }

  async #make(): Promise<void> {
    await mkdir(this.#path, { mode: 0o700 });
    const context = this.#label === undefined ? [] : [contextOption(this.#label)];
    const options = ["nodev", "nosuid", "noexec", "mode=0700", `size=${maxBytes}`, ...context];
    await mountAll([{ type: "tmpfs", source: "tmpfs", options }], this.#path);
  }
}
