import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { UnavailableError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { newId } from "../../new-id.ts";
import { isPinned, pinNamespace, pinNetworkOf, unpinNamespace } from "../../pinned-namespace.ts";
import { Slots } from "../../slots.ts";
import { type Attachment, type AttachmentRecord, AttachmentRecords } from "./attachments.ts";
import { attach, type CniCapabilities, type CniNetwork, detach, verify } from "./chain.ts";
import { CniPlugins, type CniTarget } from "./plugin.ts";
import { PluginLock } from "./plugin-lock.ts";
import { addressesOf } from "./result.ts";

/** A network name space that is attached to networks. */
export interface CniNamespace {
  readonly id: string;
  /** Where it is mounted. */
  readonly path: string;
  readonly record: AttachmentRecord;
}

/** A network, and the name that its device has inside. */
export interface DeviceNetwork {
  readonly network: CniNetwork;
  readonly ifname: string;
}

export interface NamespacesOptions {
  /** Absolute; holds the name spaces and what is known of them. */
  readonly directory: string;
  readonly pluginTimeoutMs: number;
  /** Where the network that plugins work on is mounted; undefined for our own. */
  readonly netns: string | undefined;
  /** Told to those plugins that ask. */
  readonly capabilities: CniCapabilities;
  /** Path of the user namespace that name spaces are to belong to; undefined: our own. */
  readonly owner: string | undefined;
  readonly log: Logger;
}

/** Leftovers of an earlier process that are removed at a time. */
const concurrentRemovals = 4;

/** The device that every name space has anyway; its plugin only turns it on. */
const loopbackDevice = "lo";

/**
 * Makes and unmakes network name spaces that CNI plugins attach to networks. Each is on record before anything of it is
 * there, so that a process that is killed leaves nothing that the next one does not find.
 */
export class CniNamespaces implements AsyncDisposable {
  readonly #options: NamespacesOptions;
  readonly #directory: string;
  readonly #records: AttachmentRecords;
  readonly #lock: PluginLock;

  private constructor(
    options: NamespacesOptions,
    directory: string,
    records: AttachmentRecords,
    lock: PluginLock,
  ) {
    this.#options = options;
    this.#directory = directory;
    this.#records = records;
    this.#lock = lock;
  }

  /** Removes what an earlier process has left, under the configurations that it had, when its plugins have ended. */
  static async open(options: NamespacesOptions): Promise<CniNamespaces> {
    const directory = join(options.directory, "cni");
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const records = await AttachmentRecords.open(join(options.directory, "attachments"));
    await using undo = new AsyncDisposableStack();
    const lock = undo.use(await PluginLock.acquire(join(options.directory, "plugins.lock"), options.log));
    const namespaces = new CniNamespaces(options, directory, records, lock);
    await namespaces.#recover();
    undo.move();
    return namespaces;
  }

  /** The plugins in `directories`, as this process calls them. */
  pluginsIn(directories: readonly string[]): CniPlugins {
    const { netns, pluginTimeoutMs: timeoutMs } = this.#options;
    return new CniPlugins({ directories, timeoutMs, lockFd: this.#lock.fd, netns });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock[Symbol.asyncDispose]();
  }

  /**
   * Makes a name space and attaches it to `networks`, in their order.
   *
   * @param args for the plugins, as in {@link CniTarget}.
   * @throws {UnavailableError} if a plugin fails, or a network gives no address; then nothing is left.
   */
  async create(networks: readonly DeviceNetwork[], plugins: CniPlugins, args: string): Promise<CniNamespace> {
    const id = newId();
    const path = this.#path(id);
    let record: AttachmentRecord = { pluginDirectories: plugins.directories, args, attachments: networks };
    await this.#records.write(id, record);
    try {
      const { owner } = this.#options;
      await (owner === undefined ? pinNamespace("net", path) : pinNetworkOf(owner, path));
      const attached: Attachment[] = [];
      for (const { network, ifname } of networks) {
        const target = { containerID: id, netns: path, ifname, args };
        const result = await attach(network, plugins, target, this.#options.capabilities);
        if (ifname !== loopbackDevice && addressesOf(result).length === 0) {
          throw new UnavailableError(
            `network ${JSON.stringify(network.name)} gave ${ifname} no address: nothing could be reached from it`,
          );
        }
        attached.push({ network, ifname, result });
        record = { ...record, attachments: [...attached, ...networks.slice(attached.length)] };
      }
      await this.#records.write(id, record);
      return { id, path, record };
    } catch (cause) {
      await this.remove({ id, path, record });
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new UnavailableError(`CNI setup error: ${why}`, { cause });
    }
  }

  /** Has the plugins look whether `namespace` is as they have made it. @throws {UnavailableError} if it is not. */
  async verify({ id, path, record }: CniNamespace, plugins: CniPlugins): Promise<void> {
    for (const { network, ifname, result } of record.attachments) {
      const target = { containerID: id, netns: path, ifname, args: record.args };
      if (result !== undefined) {
        await verify(network, plugins, target, this.#options.capabilities, result);
      }
    }
  }

  /**
   * Detaches and unmakes a name space, whatever of it is there. What a plugin could not undo is logged, and tried once more
   * by the next process.
   *
   * @returns whether all of it is gone.
   */
  async remove({ id, path, record }: CniNamespace): Promise<boolean> {
    const { capabilities, log } = this.#options;
    const plugins = this.pluginsIn(record.pluginDirectories);
    const netns = isPinned(path) ? path : "";
    let isGone = true;
    const attempt = async (work: Promise<void>) => {
      try {
        await work;
      } catch (error) {
        isGone = false;
        const reason = error instanceof Error ? error.message : String(error);
        log.warn({ namespace: id, reason }, "network of a step could not be removed wholly");
      }
    };
    for (const { network, ifname, result } of record.attachments.toReversed()) {
      const target: CniTarget = { containerID: id, netns, ifname, args: record.args };
      await attempt(detach(network, plugins, target, capabilities, result));
    }
    await attempt(unpinNamespace(path));
    if (isGone) {
      await this.#records.remove(id);
    }
    return isGone;
  }

  async #recover(): Promise<void> {
    const ids = new Set([...(await this.#records.list()), ...(await readdir(this.#directory))]);
    const slots = new Slots(concurrentRemovals);
    const patient = new AbortController().signal;
    await Promise.all([...ids].map((id) => slots.run(() => this.#recoverOne(id), patient)));
  }

  async #recoverOne(id: string): Promise<void> {
    const record = await this.#records.read(id);
    const nothing: AttachmentRecord = { pluginDirectories: [], args: "", attachments: [] };
    const isGone = await this.remove({ id, path: this.#path(id), record: record ?? nothing });
    this.#options.log.warn({ namespace: id, isGone }, "network of an earlier run removed");
    // What has failed twice would fail, and be complained of, at every start.
    await this.#records.remove(id);
  }

  #path(id: string): string {
    return join(this.#directory, id);
  }
}
