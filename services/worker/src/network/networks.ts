import type { NetworkMode, NetworkProvider, NetworkRequest, StepNetwork } from "./network.ts";
import type { ProxyNetworks } from "./proxy/proxy-networks.ts";

/** The network of the host itself, which nobody has to set up. */
export const hostNetwork: NetworkProvider = {
  open: () => Promise.resolve({ namespace: "host", [Symbol.asyncDispose]: () => Promise.resolve() }),
};

/** A name space with a loopback device and nothing else: the runtime makes it, and it ends with the step. */
const noNetwork: NetworkProvider = {
  open: () => Promise.resolve({ namespace: "empty", [Symbol.asyncDispose]: () => Promise.resolve() }),
};

/** What a step asks for. */
export interface StepNetworkRequest extends NetworkRequest {
  /** Whether it reaches the network by a proxy of the worker and in no other way. */
  readonly proxied: boolean;
}

/** The networks that steps may ask for: one for each mode. */
export class Networks {
  readonly #providers: Readonly<Record<NetworkMode, NetworkProvider>>;
  readonly #proxied: ProxyNetworks;

  /**
   * @param byDefault gives the network of a step that asks for none in particular.
   * @param proxied gives those that are reached by a proxy.
   */
  constructor(byDefault: NetworkProvider, proxied: ProxyNetworks) {
    this.#providers = { default: byDefault, host: hostNetwork, none: noNetwork };
    this.#proxied = proxied;
  }

  /** Gives a step its network. The caller disposes of it when no process of the step runs any more. */
  open(mode: NetworkMode, request: StepNetworkRequest, signal: AbortSignal): Promise<StepNetwork> {
    const provider = this.#providers[mode];
    return request.proxied && mode !== "none"
      ? this.#proxied.open(provider, signal)
      : provider.open(request, signal);
  }
}
