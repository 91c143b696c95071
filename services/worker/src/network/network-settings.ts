/** Where a step's network comes from; auto: from a configuration of CNI, if there is one. */
export const networkKinds = ["auto", "cni", "bridge", "host"] as const;

/** What the operator says of networks. */
export interface NetworkSettings {
  readonly networkMode: (typeof networkKinds)[number];
  readonly cniConfigPath: string;
  /** Where plugins are looked for; undefined for where they are usually installed. */
  readonly cniBinaryDirectory: string | undefined;
  readonly cniPoolSize: number;
  readonly bridgeName: string;
  /** As "10.10.0.0/16". */
  readonly bridgeSubnet: string;
  /** Whether auto is bridge, whatever configuration there is. */
  readonly bridgeAuto: boolean;
  /** Directory of the worker's state. */
  readonly root: string;
  /** Whether the worker is root in a user namespace only. */
  readonly isRootless: boolean;
  /** A file that the workers of one host lock while they try their networks out, one after the other. */
  readonly cniInitLockPath: string | undefined;
  /** Of RootlessKit, if that has started the worker. */
  readonly rootlesskitStateDirectory: string | undefined;
}
