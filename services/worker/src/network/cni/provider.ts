import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { waitOrAbandon } from "../abandon.ts";
import type { NetworkProvider, NetworkRequest, StepNetwork } from "../network.ts";
import { Pool } from "../pool.ts";
import { openNetwork } from "./chain.ts";
import type { NetworkConfig } from "./config.ts";
import type { CniNamespace, CniNamespaces, DeviceNetwork } from "./namespaces.ts";
import type { CniPlugins } from "./plugin.ts";

export interface CniProviderOptions {
  readonly config: NetworkConfig;
  /** Name of the plugin that turns the loopback device on. */
  readonly loopbackType: string;
  readonly plugins: CniPlugins;
  readonly namespaces: CniNamespaces;
  /** So many name spaces are made ahead of need. */
  readonly poolSize: number;
  /** One beyond the pool's size is kept for reuse so long. */
  readonly idleMs: number;
  readonly log: Logger;
}

/** What may go into CNI_ARGS, where a semicolon would begin another argument. */
const hostnameForm = /^[A-Za-z0-9_.-]+$/;

/**
 * Gives each step a network name space of its own that CNI plugins have attached to a network.
 *
 * Setting one up takes longer than most steps; so they are used again, never by two steps at a time. A step with a
 * hostname of its own gets one made for it, because the plugins are told the name.
 */
export class CniProvider implements NetworkProvider, AsyncDisposable {
  readonly #options: CniProviderOptions;
  readonly #networks: readonly DeviceNetwork[];
  readonly #pool: Pool<CniNamespace>;
  readonly #abandoned = new Set<Promise<unknown>>();

  private constructor(options: CniProviderOptions, networks: readonly DeviceNetwork[]) {
    this.#options = options;
    this.#networks = networks;
    const { idleMs, log, namespaces, plugins, poolSize } = options;
    this.#pool = new Pool({
      targetSize: poolSize,
      idleMs,
      make: () => namespaces.create(networks, plugins, ""),
      release: async (namespace) => void (await namespaces.remove(namespace)),
      log,
    });
  }

  /**
   * Proves that the network works by attaching a name space to it and detaching it again, and begins to fill the pool.
   *
   * @throws {FailedPreconditionError} if a plugin is missing or speaks other versions.
   * @throws {UnavailableError} if a plugin fails.
   */
  static async open(options: CniProviderOptions): Promise<CniProvider> {
    const { config, log, loopbackType, namespaces, plugins } = options;
    const networks = [
      { network: await openNetwork(loopbackConfig(loopbackType), plugins), ifname: "lo" },
      { network: await openNetwork(config, plugins), ifname: "eth0" },
    ];
    const proof = await namespaces.create(networks, plugins, "");
    try {
      await namespaces.verify(proof, plugins);
    } catch (error) {
      // Upstream never asks, so there are networks that work and fail it.
      const reason = error instanceof Error ? error.message : String(error);
      log.warn({ reason }, "network is there, but its plugins find fault with it");
    } finally {
      await namespaces.remove(proof);
    }
    const provider = new CniProvider(options, networks);
    provider.#pool.fill();
    return provider;
  }

  async open({ hostname, insecure }: NetworkRequest, signal: AbortSignal): Promise<StepNetwork> {
    if (hostname === "") {
      const namespace = await this.#pool.take(signal);
      return stepNetwork(namespace, () =>
        insecure ? this.#pool.drop(namespace) : this.#pool.put(namespace),
      );
    }
    if (!hostnameForm.test(hostname)) {
      throw new InvalidArgumentError(
        `Cannot make hostname ${JSON.stringify(hostname)} known to the network: want letters, digits, "_", "." and "-"`,
      );
    }
    const { namespaces, plugins } = this.#options;
    // The argument that dnsname and others know; those that do not are told to overlook it.
    const args = `IgnoreUnknown=1;K8S_POD_NAME=${hostname}`;
    const remove = async (namespace: CniNamespace) => void (await namespaces.remove(namespace));
    const namespace = await waitOrAbandon(
      namespaces.create(this.#networks, plugins, args),
      signal,
      (creating) => this.#keep(creating.then(remove, () => undefined)),
    );
    return stepNetwork(namespace, () => remove(namespace));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#abandoned);
    await this.#pool[Symbol.asyncDispose]();
  }

  #keep(work: Promise<void>): void {
    this.#abandoned.add(work);
    void work.finally(() => this.#abandoned.delete(work));
  }
}

function stepNetwork({ path }: CniNamespace, dispose: () => Promise<void>): StepNetwork {
  return { namespace: { path }, [Symbol.asyncDispose]: dispose };
}

/** A network of its own: the plugins of the operator's network do not see it. */
function loopbackConfig(type: string): NetworkConfig {
  return {
    name: "cni-loopback",
    cniVersions: ["1.0.0", "0.4.0", "0.3.1"],
    disableCheck: true,
    plugins: [{ type }],
  };
}
