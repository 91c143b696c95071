import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { tryLockExclusively } from "@oci-worker/libc/file";
import type { Logger } from "pino";

/** A lock that is held is tried again this often. */
const retryMs = 20;

/** Plugins of an earlier worker are waited for so long; one may have started a service that runs on, such as dnsmasq. */
const patienceMs = 5000;

/**
 * A lock that plugins hold together with the worker that calls them: they get its descriptor. A worker that is killed leaves
 * it to those that still run, and what they set up then must not be removed before they have ended.
 */
export class PluginLock implements AsyncDisposable {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Waits, within bounds, until no plugin of an earlier worker runs. */
  static async acquire(path: string, log: Logger): Promise<PluginLock> {
    const file = await open(path, "a", 0o600);
    const startedAtMs = performance.now();
    for (let tries = 0; !tryLockExclusively(file.fd); tries += 1) {
      if (tries === 0) {
        log.info({ path }, "waiting for plugins of an earlier run");
      }
      if (performance.now() - startedAtMs > patienceMs) {
        log.warn({ path, patienceMs }, "plugins of an earlier run have not ended, not waiting any longer");
        break;
      }
      await delay(retryMs);
    }
    return new PluginLock(file);
  }

  /** To be passed on to plugins. */
  get fd(): number {
    return this.#file.fd;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
