import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { newId } from "../../new-id.ts";
import { pinNamespace, pinNetworkOf, unpinNamespace } from "../../pinned-namespace.ts";
import type { NetworkProvider, StepNetwork } from "../network.ts";
import { Proxies } from "./proxies.ts";
import { summaryText } from "./request-log.ts";

export interface ProxyNetworksOptions {
  /** Absolute; holds the name spaces of steps. */
  readonly directory: string;
  /** Path of the user namespace that the name spaces belong to; undefined: ours. */
  readonly owner: string | undefined;
  readonly log: Logger;
}

/** Where no proxy is asked for, because it is the step itself. */
const unproxied = "127.0.0.1,localhost,::1";

/** Gives steps networks that lead nowhere but to a proxy of the worker. */
export class ProxyNetworks implements AsyncDisposable {
  readonly #directory: string;
  readonly #owner: string | undefined;
  readonly #proxies = new Proxies();

  private constructor({ directory, owner }: ProxyNetworksOptions) {
    this.#directory = directory;
    this.#owner = owner;
  }

  /** Removes what an earlier process has left. */
  static async open(options: ProxyNetworksOptions): Promise<ProxyNetworks> {
    const { directory, log } = options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      await unpinNamespace(join(directory, name));
      log.warn({ namespace: name }, "proxy network of an earlier run removed");
    }
    return new ProxyNetworks(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxies[Symbol.asyncDispose]();
  }

  /**
   * Gives a step a network name space with nothing but a loopback device, on which a proxy listens.
   *
   * @param egress gives the network that the proxy asks from, for as long as the step runs.
   */
  async open(egress: NetworkProvider, signal: AbortSignal): Promise<StepNetwork> {
    await using undo = new AsyncDisposableStack();
    // Nobody but the proxy is ever in it, so it need not have the step's name and nobody spoils it.
    const outside = undo.use(await egress.open({ hostname: "", insecure: false }, signal));
    const path = join(this.#directory, newId());
    await (this.#owner === undefined ? pinNamespace("net", path) : pinNetworkOf(this.#owner, path));
    undo.defer(() => unpinNamespace(path));
    const { id, url, authority } = await this.#proxies.open(
      path,
      typeof outside.namespace === "object" ? outside.namespace.path : undefined,
    );
    let closing: Promise<string> | undefined;
    const close = () => {
      closing ??= this.#proxies.close(id).then(summaryText);
      return closing;
    };
    undo.defer(async () => void (await close()));
    const owned = undo.move();
    return {
      namespace: { path },
      proxy: { variables: variablesFor(url), authority, close },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }
}

/** In both spellings, for programs look for either. */
function variablesFor(url: string): ReadonlyMap<string, string> {
  return new Map(
    [
      ["HTTP_PROXY", url],
      ["HTTPS_PROXY", url],
      ["NO_PROXY", unproxied],
    ].flatMap(([name = "", value = ""]) => [
      [name, value],
      [name.toLowerCase(), value],
    ]),
  );
}
