/** Which network a step asks for (pb.NetMode): the worker's default one, the host's own, or none at all. */
export type NetworkMode = "default" | "host" | "none";

/**
 * The network name space that the processes of a step are in: the host's, a new and empty one that the runtime makes,
 * or the one that is pinned at a path.
 */
export type NetworkNamespace = "host" | "empty" | { readonly path: string };

/** The network of one step, until it is disposed of. */
export interface StepNetwork extends AsyncDisposable {
  readonly namespace: NetworkNamespace;
  /** The only way out of it; undefined if it is not by a proxy. */
  readonly proxy?: NetworkProxy;
}

/** A proxy of the worker, as a step gets to know it. */
export interface NetworkProxy {
  /** Of the environment, by name: where it is. */
  readonly variables: ReadonlyMap<string, string>;
  /** The certificate, PEM, that whoever uses it must trust. */
  readonly authority: string;
  /** Ends it. @returns what the step is told of the requests that it has made; empty if there was none. */
  close(): Promise<string>;
}

/** What decides, besides its mode, which network a step gets. */
export interface NetworkRequest {
  /** The name that the step asked for, which some networks make known; empty if it asked for none. */
  readonly hostname: string;
  /** Whether the step may change the network that it gets, so that nobody must get it after it. */
  readonly insecure: boolean;
}

/** Gives networks of one kind to steps. */
export interface NetworkProvider {
  /**
   * @throws if there is no network to be had, and then nothing of it is left.
   */
  open(request: NetworkRequest, signal: AbortSignal): Promise<StepNetwork>;
}
