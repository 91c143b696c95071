import type { NetworkMode, NetworkProvider, NetworkRequest, StepNetwork } from "./network.ts";

/** The network of the host itself, which nobody has to set up. */
export const hostNetwork: NetworkProvider = {
  open: () => Promise.resolve({ namespace: "host", [Symbol.asyncDispose]: () => Promise.resolve() }),
};

/** A name space with a loopback device and nothing else: the runtime makes it, and it ends with the step. */
const noNetwork: NetworkProvider = {
  open: () => Promise.resolve({ namespace: "empty", [Symbol.asyncDispose]: () => Promise.resolve() }),
};

/** The networks that steps may ask for: one for each mode. */
export class Networks {
  readonly #providers: Readonly<Record<NetworkMode, NetworkProvider>>;

  /** @param byDefault gives the network of a step that asks for none in particular. */
  constructor(byDefault: NetworkProvider) {
    this.#providers = { default: byDefault, host: hostNetwork, none: noNetwork };
  }

  /** Gives a step its network. The caller disposes of it when no process of the step runs any more. */
  open(mode: NetworkMode, request: NetworkRequest, signal: AbortSignal): Promise<StepNetwork> {
    return this.#providers[mode].open(request, signal);
  }
}
