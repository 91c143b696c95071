import { closeSync, constants, fsync, fsyncSync, openSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { syncfs } from "@oci-worker/libc/file";

const fsyncDescriptor = promisify(fsync);

/** Makes the entries of the directory `path` durable. Blocks until they are. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes everything of the file system that the directory `path` is on to its disk. Blocks until it is there. */
export function syncFileSystem(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    syncfs(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes the entries of one directory durable. Whoever asks while a sync is running shares the next one: that which
 * runs may have begun too early for them.
 */
export class DirectorySync implements Disposable {
  readonly #fd: number;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** Resolves when everything that has been renamed into the directory until now will be there after a power cut. */
  flush(): Promise<void> {
    this.#next ??= this.#begin();
    return this.#next;
  }

  async #begin(): Promise<void> {
    // Whether the one before failed is told to those who wait for it.
    await this.#running.catch(() => undefined);
    await setImmediate();
    this.#next = undefined;
    this.#running = fsyncDescriptor(this.#fd);
    await this.#running;
  }
}
